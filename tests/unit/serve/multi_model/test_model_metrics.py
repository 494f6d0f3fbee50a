import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serve.multi_model.model_metrics import ModelMetrics, Totals, utilization

TOTALS = Totals(n_loaded=7, memory_percent=12.5, disk_percent=50.0)


def text_of(metrics: ModelMetrics) -> dict[str, float]:
    class Collector:
        def describe(self) -> list[object]:
            return []

        def collect(self) -> object:
            return metrics.collect(TOTALS)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    lines = generate_latest(registry).decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if not line.startswith("#")
    }


def test_rows_add_up_and_what_a_dead_worker_had_is_gone() -> None:
    """Keeps its counts for its successor (C-085)."""
    metrics = ModelMetrics(2, emf_namespace=None)
    for row in (0, 1):
        metrics.use_row(row)
        metrics.looked_up(None)
        metrics.looked_up(0.25)
        metrics.loaded("m", 0.002)
        metrics.resident(3, 300)
    metrics.unloaded("m", 0.001)

    metrics.clear(0)

    samples = text_of(metrics)
    assert samples["ModelCacheHit_count"] == 4
    assert samples["ModelCacheHit_sum"] == 2
    assert samples["ModelLoadingWaitTime_sum"] == pytest.approx(500_000)
    assert samples["ModelLoadingTime_count"] == samples["byoa_model_loads_total"] == 2
    assert samples["ModelLoadingTime_sum"] == pytest.approx(4000)
    assert samples["ModelUnloadingTime_sum"] == pytest.approx(1000)
    assert samples["byoa_resident_models"] == 3
    assert samples["byoa_resident_model_bytes"] == 300
    assert samples["LoadedModelCount"] == 7
    assert samples["MemoryUtilization"] == 12.5
    assert samples["DiskUtilization"] == 50.0
    metrics.use_row(0)
    metrics.looked_up(None)
    assert text_of(metrics)["ModelCacheHit_count"] == 5


def test_totals_are_a_line_in_embedded_metric_format(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Logs them where a namespace is set, and nothing otherwise (C-008)."""
    import logging

    logging.getLogger("serve.multi_model.model_metrics").setLevel(logging.INFO)
    ModelMetrics(1, emf_namespace=None).log_totals(TOTALS)
    ModelMetrics(1, emf_namespace="Mine").log_totals(TOTALS)

    (line,) = capfdbinary.readouterr().out.splitlines()
    facts = json.loads(line)
    assert (facts["LoadedModelCount"], facts["MemoryUtilization"]) == (7, 12.5)
    (declared,) = facts["_aws"]["CloudWatchMetrics"]
    assert {"Name": "DiskUtilization", "Unit": "Percent"} in declared["Metrics"]


def test_utilization_is_in_percent(tmp_path: object) -> None:
    """Reports 0 where the file system cannot be measured (C-085)."""
    from pathlib import Path

    memory_percent, disk_percent = utilization(Path(str(tmp_path)))

    assert 0 < memory_percent <= 100
    assert 0 < disk_percent <= 100
    assert utilization(Path("/nowhere"))[1] == 0.0
