"""A run made of few numbers, worked out by hand."""

import pytest

from benchmarks.multi_model.fleet_results import (
    Article,
    CodeModels,
    Crowded,
    Cycles,
    Latency,
    Resident,
    Results,
    Step,
    Traffic,
    Warm,
)

MACHINE = {"cpu": "8086", "cpus": 2, "memory_bytes": 640_000_000, "kernel": "6", "python": "3"}


@pytest.fixture
def results() -> Results:
    """Everything is measured, and every target met, some of them just so."""
    steps = [
        Step(model, is_hit=hit, loaded=loaded, pss=10**6)
        for model, hit, loaded in ((0, False, 1), (1, False, 2), (0, True, 2), (1, True, 2))
    ]
    steps += [
        Step(model, is_hit=hit, loaded=3, pss=2 * 10**6)
        for model, hit in ((0, True), (1, True), (2, False), (3, False))
    ]
    fast = Latency(count=100, p50_ms=5.0, p99_ms=25.0, max_ms=30.0)
    return Results(
        began="2026-11-22 03:00 UTC",
        engine="gunicorn",
        machine=dict(MACHINE),
        article=Article(4, 500_000, 3 * 10**6, 3, steps),
        resident=Resident(10_000, 30_000, 100_000_000, 700_000_000, fast, fast),
        crowded=Crowded(10_000, 150, [Traffic(100, 0.875, 5000, fast)], fast, 1),
        warm=Warm(single_us=[100, 100, 900], multi_us=[115, 90, 115]),
        cycles=Cycles(27_000_000, [10**8] * 100),
        code_cycles=Cycles(500_000, [10**8] * 100),
        code=CodeModels(
            *(200, 25e6, Latency(200, 60.0, 90.0, 99.0)),
            *([100, 200, 900], [400, 300, 500], [5000], [6000]),
        ),
        foreign_cpus={"article": 0.25, "warm": 1.5},
        duration_seconds=600,
    )
