"""The targets against runs worked out by hand."""

import pytest

from benchmarks.serving.results import Results, Sharing
from benchmarks.serving.targets import Verdict, judge
from tests.unit.benchmarks.conftest import make_sample


def verdict_on(results: Results, subject: str) -> Verdict:
    (found,) = [verdict for verdict in judge(results) if verdict.subject == subject]
    return found


@pytest.mark.parametrize(
    ("n_rows", "ours", "is_met"),
    [(1, 100, True), (1, 101, False), (100, 225, True), (100, 226, False), (1000, 351, False)],
)
def test_cpu_is_held_against_the_best_peer(
    results: Results, n_rows: int, ours: float, is_met: bool
) -> None:
    """The best needs 500 µs: 0.20 of it for one row, 0.45 for 100, 0.70 for 1000."""
    costs = {"ours": ours, "slow": 900, "fast": 500, "floor": 10}
    results.samples = [
        make_sample(name, n_rows=n_rows, cpu_us=cost) for name, cost in costs.items()
    ]
    rows = "1 row" if n_rows == 1 else f"{n_rows} rows"

    verdict = verdict_on(results, f"CPU per request, {rows}, 8 connections")

    assert verdict.is_met is is_met
    assert verdict.best_peer == "FAST 500 µs"


@pytest.mark.parametrize(("ours", "is_met"), [(6000, True), (5999, False)])
def test_rate_is_held_against_the_fastest_peer(results: Results, ours: float, is_met: bool) -> None:
    """Six times the 1,000 a second of the fastest."""
    rates = {"ours": ours, "slow": 500, "fast": 1000, "floor": 90_000}
    results.samples = [
        make_sample(name, connections=64, requests_per_second=rate) for name, rate in rates.items()
    ]

    verdict = verdict_on(results, "requests/s, 1 row, 64 connections")

    assert verdict.is_met is is_met
    assert verdict.best_peer == "FAST 1,000/s"


def test_tail_is_the_median_of_the_ratios(results: Results) -> None:
    """2, 3 and 9: the ratio of each repetition, not of the medians."""
    results.samples = [
        make_sample("ours", p50_ms=p50, p99_ms=p99) for p50, p99 in ((1, 2), (2, 6), (1, 9))
    ]

    verdict = verdict_on(results, "p99 ÷ p50, 1 row, 8 connections")

    assert (verdict.measured, verdict.is_met) == ("3.0", True)


def test_start_and_memory_have_limits_of_their_own(results: Results) -> None:
    """0.5 s of 0.9, and 100 MB of 110, whatever the peers need."""
    start = verdict_on(results, "start to first right answer")
    memory = verdict_on(results, "PSS, two workers")

    assert (start.measured, start.is_met) == ("0.50 s", True)
    assert (memory.measured, memory.is_met) == ("100 MB", True)


@pytest.mark.parametrize(("pss", "is_met"), [(1_300_000_000, True), (1_310_000_000, False)])
def test_sharing_is_held_against_one_copy(results: Results, pss: int, is_met: bool) -> None:
    """1.3 copies of a gigabyte."""
    results.sharing = Sharing(
        workers=4, model_file=500_000_000, copy=1_000_000_000, pss=pss, start_seconds=1.0
    )

    assert verdict_on(results, "a 500 MB model, four workers, PSS").is_met is is_met


def test_what_was_not_measured_is_neither_met_nor_missed(results: Results) -> None:
    """A run over some servers or some points claims nothing about the others."""
    results.starts = []

    assert [verdict.is_met for verdict in judge(results)] == [None] * 10


def test_without_a_peer_there_is_no_ratio(results: Results) -> None:
    """Ours alone is not the best of anything."""
    results.samples = [make_sample("ours", cpu_us=100)]

    verdict = verdict_on(results, "CPU per request, 1 row, 8 connections")

    assert (verdict.measured, verdict.best_peer, verdict.is_met) == ("-", "-", None)


def test_nothing_is_met_where_requests_failed(results: Results) -> None:
    """However cheap, fast and even the others were; another point is judged as ever."""
    results.samples = [make_sample("fast", connections=n, cpu_us=1000) for n in (8, 64)]
    figures = {"cpu_us": 1, "requests_per_second": 90_000, "p99_ms": 1}
    results.samples += [
        make_sample("ours", connections=connections, errors=errors, **figures)
        for connections, errors in ((8, 7), (8, 0), (64, 0))
    ]

    cost = verdict_on(results, "CPU per request, 1 row, 8 connections")
    tail = verdict_on(results, "p99 ÷ p50, 1 row, 8 connections")
    rate = verdict_on(results, "requests/s, 1 row, 64 connections")

    assert [verdict.is_met for verdict in (cost, tail, rate)] == [False, False, True]
    assert cost.measured == "0.00 × (1 µs), 7 of 6,007 failed"
    assert tail.measured == "1.0, 7 of 6,007 failed"


def test_rate_is_missed_where_requests_failed(results: Results) -> None:
    """At its own number of connections."""
    results.samples = [make_sample("fast", connections=64, requests_per_second=1000)]
    results.samples += [make_sample("ours", connections=64, requests_per_second=9000, errors=1)]

    assert verdict_on(results, "requests/s, 1 row, 64 connections").is_met is False


def test_errors_of_a_peer_are_no_miss_of_ours(results: Results) -> None:
    """The figures of its good answers are what it is held against."""
    results.samples = [make_sample("fast", cpu_us=1000, errors=9), make_sample("ours", cpu_us=200)]

    assert verdict_on(results, "CPU per request, 1 row, 8 connections").is_met is True
