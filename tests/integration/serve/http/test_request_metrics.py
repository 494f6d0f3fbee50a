"""The counters of `GET /metrics`, shared by forked processes."""

import os

from serve.http.request_metrics import Metrics
from tests.unit.serve.http.test_request_metrics import _samples


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
