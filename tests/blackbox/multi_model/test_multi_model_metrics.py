"""Multi-model endpoints from outside: metrics and logs."""

from tests.blackbox.log_lines import log_lines
from tests.blackbox.multi_model.conftest import Fleet, StartFleet


def test_metrics_have_cloudwatchs_names_and_add_up_over_workers(fleet: Fleet) -> None:
    """Loads, unloads, times, hits and what is in memory, whichever worker is asked (C-085)."""
    before = fleet.metrics()
    fleet.write_constant("m", 1.0)
    fleet.load("m")
    for _ in range(40):
        fleet.invoke("m")

    seen = [fleet.metrics() for _ in range(4)]
    fleet.unload("m")
    after = fleet.metrics()

    def grew(now: dict[str, float], name: str) -> float:
        return now[name] - before.get(name, 0)

    assert {metrics["LoadedModelCount"] for metrics in seen} == {1}
    assert {grew(metrics, "ModelCacheHit_count") for metrics in seen} == {40}
    assert {metrics["byoa_resident_models"] for metrics in seen} <= {1, 2}
    assert grew(seen[0], "ModelCacheHit_sum") == 40 - grew(seen[0], "ModelLoadingWaitTime_count")
    n_loads = grew(after, "ModelLoadingTime_count")
    assert n_loads == grew(after, "byoa_model_loads_total") in (1, 2)
    assert grew(after, "ModelUnloadingTime_count") == n_loads
    assert 100 < grew(after, "ModelLoadingTime_sum") < 10_000_000  # microseconds
    assert (after["LoadedModelCount"], after["byoa_resident_models"]) == (0, 0)
    assert 0 < after["MemoryUtilization"] <= 100
    assert 0 < after["DiskUtilization"] <= 100


def test_metrics_are_log_lines_where_a_namespace_is_set(start_fleet: StartFleet) -> None:
    """Loading, unloading and invoking, in CloudWatch's Embedded Metric Format (C-008)."""
    with start_fleet(BYOA_EMF_NAMESPACE="Mine", SAGEMAKER_MODEL_SERVER_WORKERS="1") as fleet:
        fleet.write_constant("m", 1.0)
        fleet.load("m")
        fleet.invoke("m")
        fleet.unload("m")
        fleet.server.wait_for_output('"model_unregistered"')
        lines = log_lines(fleet.server)

    by_event = {line["event"]: line for line in lines if "_aws" in line}
    assert by_event["model_resident"]["ModelLoadingTime"] > 0
    assert by_event["model_unloaded"]["ModelUnloadingTime"] > 0
    assert by_event["invocation"]["ModelCacheHit"] == 1
    assert by_event["invocation"]["model_name"] == "m"
    (declared,) = by_event["invocation"]["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "Mine"
    assert {"Name": "ModelCacheHit", "Unit": "Count"} in declared["Metrics"]
