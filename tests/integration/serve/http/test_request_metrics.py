"""The counters of `GET /metrics`, shared by forked processes."""

import os

from prometheus_client.parser import text_string_to_metric_families

from serve.http.request_metrics import Metrics


def _samples(metrics: Metrics) -> dict[str, float]:
    """Parse the samples of the text, by `name{label="value"}`."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_counts_of_all_processes_are_added_up() -> None:
    """Two processes have separate rows; a third continues the row of the first."""
    metrics = Metrics(2)
    rows = []
    for status in (200, 400, 200):
        if len(rows) == 2:
            metrics.release_row(rows[0])
        rows.append(metrics.take_row())
        child = os.fork()
        if child == 0:
            metrics.count(status, 0.003, 7)
            os._exit(0)
        os.waitpid(child, 0)

    samples = _samples(metrics)

    assert rows == [0, 1, 0]
    assert samples['byoa_invocations_total{status="200"}'] == 2
    assert samples['byoa_invocations_total{status="400"}'] == 1
    assert samples["byoa_records_total{}"] == 21
