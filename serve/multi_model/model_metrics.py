"""Metrics of many models, under CloudWatch's names.

    ModelCacheHit          invocations, and those whose model was cached
    ModelLoadingWaitTime   how long invocations waited for their model, those that had to
    ModelLoadingTime, ModelUnloadingTime
    LoadedModelCount       models that can be invoked
    MemoryUtilization, DiskUtilization

Units are CloudWatch's: microseconds and percent. Each is in `GET /metrics`, as the sum over all
workers, and in log lines in the Embedded Metric Format where a namespace is set.

Source: SageMaker developer guide, "CloudWatch Metrics for Multi-Model Endpoint Deployments".
"""

import logging
import mmap
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from container import cgroup, logs
from serve.http.access_log import Measurement, embedded_metrics

if TYPE_CHECKING:
    from prometheus_client import Metric

logger = logging.getLogger(__name__)

_CELL_BYTES = 8
_MICROSECONDS = 1_000_000
# Counts and sums, then two gauges.
_TIMES = ("ModelLoadingTime", "ModelUnloadingTime", "ModelLoadingWaitTime")
_CELLS = (
    *("lookups", "hits"),
    *(f"{name} {what}" for name in _TIMES for what in ("count", "sum")),
    *("resident models", "resident bytes"),
)
_INDEX = {name: index for index, name in enumerate(_CELLS)}
_RESIDENT = _INDEX["resident models"]
_HELP = {
    "ModelLoadingTime": "Microseconds that loading a model into a worker took.",
    "ModelUnloadingTime": "Microseconds that freeing a model in a worker took.",
    "ModelLoadingWaitTime": "Microseconds that invocations waited for their model to be loaded.",
}


class Totals(NamedTuple):
    """Gauges of the whole container, which any worker can measure."""

    n_loaded: int
    memory_percent: float
    disk_percent: float


class ModelMetrics:
    """Counters in shared memory, made before the workers are forked; each has a row of its own."""

    def __init__(self, n_rows: int, *, emf_namespace: str | None) -> None:
        self._n_rows = n_rows
        self._emf_namespace = emf_namespace
        self._cells = memoryview(mmap.mmap(-1, n_rows * len(_CELLS) * _CELL_BYTES)).cast("d")
        self._row = self._row_of(0)

    def use_row(self, row: int) -> None:
        """Count into `row` from now on; the models of the row's last process are gone."""
        self._row = self._row_of(row)
        self.resident(0, 0)

    def clear(self, row: int) -> None:
        """Reset the gauges of a process that has ended."""
        cells = self._row_of(row)
        cells[_RESIDENT] = cells[_RESIDENT + 1] = 0

    def looked_up(self, waited_seconds: float | None) -> None:
        """Count an invocation, and how long it waited for its model if it was not cached."""
        self._row[0] += 1
        if waited_seconds is None:
            self._row[1] += 1
        else:
            self._add("ModelLoadingWaitTime", waited_seconds)

    def loaded(self, name: str, seconds: float) -> None:
        """Count and log that a model is cached."""
        self._add("ModelLoadingTime", seconds)
        self._log("model_resident", name, "ModelLoadingTime", seconds)

    def unloaded(self, name: str, seconds: float) -> None:
        """Count and log that a model is not resident any more."""
        self._add("ModelUnloadingTime", seconds)
        self._log("model_unloaded", name, "ModelUnloadingTime", seconds)

    def resident(self, n_models: int, n_bytes: int) -> None:
        """Set the gauges of this worker: its models in memory and their bytes."""
        self._row[_RESIDENT] = n_models
        self._row[_RESIDENT + 1] = n_bytes

    def log_totals(self, totals: Totals) -> None:
        """Log the gauges of the container in the Embedded Metric Format, if that is wanted."""
        if self._emf_namespace is None:
            return
        measurements = [
            Measurement("LoadedModelCount", "Count", totals.n_loaded),
            Measurement("MemoryUtilization", "Percent", totals.memory_percent),
            Measurement("DiskUtilization", "Percent", totals.disk_percent),
        ]
        logs.write(logger, "models", embedded_metrics(self._emf_namespace, measurements))

    def collect(self, totals: Totals) -> "Iterator[Metric]":
        """Yield all metrics, summed over the workers: a `prometheus_client.registry.Collector`."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            SummaryMetricFamily,
        )

        sums = [sum(self._cells[index :: len(_CELLS)]) for index in range(len(_CELLS))]
        yield SummaryMetricFamily(
            "ModelCacheHit",
            "Invocations, and those whose model was cached.",
            int(sums[0]),
            sums[1],
        )
        for name in _TIMES:
            index = _INDEX[f"{name} count"]
            yield SummaryMetricFamily(name, _HELP[name], int(sums[index]), sums[index + 1])
        loads, unloads = (sums[_INDEX[f"{name} count"]] for name in _TIMES[:2])
        yield CounterMetricFamily("byoa_model_loads", "Models loaded into workers.", loads)
        yield CounterMetricFamily("byoa_model_unloads", "Models freed in workers.", unloads)
        for name, text, value in (
            (
                "byoa_resident_models",
                "Models in memory, summed over the workers.",
                sums[_RESIDENT],
            ),
            (
                "byoa_resident_model_bytes",
                "Memory of these models, as measured when they were validated.",
                sums[_RESIDENT + 1],
            ),
            *_gauges(totals),
        ):
            yield GaugeMetricFamily(name, text, value)

    def _row_of(self, row: int) -> "memoryview[float]":
        row = min(row, self._n_rows - 1)
        return self._cells[row * len(_CELLS) : (row + 1) * len(_CELLS)]

    def _add(self, name: str, seconds: float) -> None:
        index = _INDEX[f"{name} count"]
        self._row[index] += 1
        self._row[index + 1] += seconds * _MICROSECONDS

    def _log(self, event: str, model_name: str, metric: str, seconds: float) -> None:
        facts: dict[str, object] = {
            "model_name": model_name,
            "duration_ms": round(seconds * 1000, 3),
        }
        if self._emf_namespace is not None:
            measurement = Measurement(metric, "Microseconds", round(seconds * _MICROSECONDS))
            facts |= embedded_metrics(self._emf_namespace, [measurement])
        logs.write(logger, event, facts)


def utilization(directory: Path) -> tuple[float, float]:
    """Return how full the memory and the file system of `directory` are, in percent."""
    granted = cgroup.memory_bytes()
    memory_percent = 100 * (1 - cgroup.memory_available_bytes() / granted)
    try:
        disk = shutil.disk_usage(directory)
    except OSError:
        return round(memory_percent, 2), 0.0
    return round(memory_percent, 2), round(100 * disk.used / disk.total, 2)


def _gauges(totals: Totals) -> Iterator[tuple[str, str, float]]:
    yield "LoadedModelCount", "Models that can be invoked.", totals.n_loaded
    memory_percent = totals.memory_percent
    yield "MemoryUtilization", "Percent of the memory granted that is in use.", memory_percent
    yield "DiskUtilization", "Percent of the models' file system in use.", totals.disk_percent
