"""Counters for `GET /metrics` in Prometheus's text format, summed over all workers.

Each worker counts into its own row of shared memory. The worker that answers `/metrics` adds the
rows up. The memory is anonymous, not a file: nothing stays behind, and a full disk does no harm.
prometheus_client takes 50 ms and 6 MB, and is imported at the first request of `/metrics`.
"""

import bisect
import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# A row: invocations by status, by latency (the last cell is for longer ones), seconds, records.
_N_STATUSES = 600
_LATENCY = _N_STATUSES
_SECONDS = _LATENCY + len(_LATENCY_SECONDS) + 1
_RECORDS = _SECONDS + 1
_N_CELLS = _RECORDS + 1
_CELL_BYTES = 8


class Metrics:
    """The metrics of this server; created once, before the workers are forked."""

    def __init__(self, n_processes: int) -> None:
        """Args:
        n_processes: The number of rows. Of more processes, some share a row and may lose counts.
        """
        self.n_rows = n_processes
        self._cells = memoryview(mmap.mmap(-1, n_processes * _N_CELLS * _CELL_BYTES)).cast("d")
        self._free_rows = list(range(n_processes - 1, -1, -1))
        self._row = self._cells[:_N_CELLS]

    def take_row(self) -> int:
        """Choose the row of the process that is forked next; called in its parent."""
        row = self._free_rows.pop() if self._free_rows else self.n_rows - 1
        self._row = self._cells[row * _N_CELLS : (row + 1) * _N_CELLS]
        return row

    def release_row(self, row: int) -> None:
        """Free the row of an exited process. Its counts stay; the next process adds to them."""
        if row not in self._free_rows:
            self._free_rows.append(row)

    def count(self, status: int, seconds: float, n_records: int) -> None:
        """Count one invocation; called in one thread of each process only."""
        row = self._row
        row[min(status, _N_STATUSES - 1)] += 1
        row[_LATENCY + bisect.bisect_left(_LATENCY_SECONDS, seconds)] += 1
        row[_SECONDS] += seconds
        row[_RECORDS] += n_records

    def text(self, *collectors: "Collector") -> bytes:
        """The metrics of all processes, exited ones included, and of `collectors`, as text."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        for collector in collectors:
            registry.register(collector)
        registry.register(_Collector(self._totals()))
        return generate_latest(registry)

    def _totals(self) -> list[float]:
        rows = [self._cells[row * _N_CELLS : (row + 1) * _N_CELLS] for row in range(self.n_rows)]
        return [sum(column) for column in zip(*rows, strict=True)]


class _Collector:
    """Collector of the counted totals; see `prometheus_client.registry.Collector`."""

    def __init__(self, totals: list[float]) -> None:
        self._totals = totals

    def describe(self) -> "list[Metric]":
        return []

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        totals = self._totals
        by_status = CounterMetricFamily(
            "byoa_invocations", "Invocations by HTTP status.", labels=["status"]
        )
        for status, count in enumerate(totals[:_N_STATUSES]):
            if count:
                by_status.add_metric([str(status)], count)
        yield by_status
        cumulated, buckets = 0.0, []
        for bound, count in zip(
            (*map(str, _LATENCY_SECONDS), "+Inf"), totals[_LATENCY:_SECONDS], strict=True
        ):
            cumulated += count
            buckets.append((bound, cumulated))
        yield HistogramMetricFamily(
            "byoa_invocation_seconds",
            "Seconds from the end of a request's headers to its answer.",
            buckets=buckets,
            sum_value=totals[_SECONDS],
        )
        yield CounterMetricFamily("byoa_records", "Records predicted.", value=totals[_RECORDS])
