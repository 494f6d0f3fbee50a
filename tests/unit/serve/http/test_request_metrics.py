"""The counters of `GET /metrics`, shared by forked processes."""

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


def test_latency_is_a_cumulative_histogram() -> None:
    """A value on a bound counts below it, and one above all bounds only in +Inf."""
    metrics = Metrics(1)
    metrics.take_row()
    for seconds in (0.001, 0.5, 61.0):
        metrics.count(200, seconds, 0)

    samples = _samples(metrics)

    assert samples['byoa_invocation_seconds_bucket{le="0.0005"}'] == 0
    assert samples['byoa_invocation_seconds_bucket{le="0.001"}'] == 1
    assert samples['byoa_invocation_seconds_bucket{le="0.5"}'] == 2
    assert samples['byoa_invocation_seconds_bucket{le="60.0"}'] == 2
    assert samples['byoa_invocation_seconds_bucket{le="+Inf"}'] == 3
    assert samples["byoa_invocation_seconds_count{}"] == 3
    assert samples["byoa_invocation_seconds_sum{}"] == 61.501


def test_more_processes_than_rows_share_one() -> None:
    """More processes than rows share one; spawning goes on."""
    metrics = Metrics(1)

    assert [metrics.take_row(), metrics.take_row()] == [0, 0]
    metrics.release_row(0)
    metrics.release_row(0)
    assert [metrics.take_row(), metrics.take_row()] == [0, 0]


def test_status_that_no_table_has_is_counted() -> None:
    """Statuses of user code may be any number."""
    metrics = Metrics(1)
    metrics.take_row()
    metrics.count(999, 0.1, 0)

    assert _samples(metrics)['byoa_invocations_total{status="599"}'] == 1
