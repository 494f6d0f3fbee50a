"""Medians, spreads and who is best."""

from benchmarks.serving.results import Point, Results
from benchmarks.serving.summary import Spread, Summary
from tests.unit.benchmarks.conftest import make_sample, make_subject

POINT = Point(1, 8)


def cpu_spread(summary: Summary, server: str) -> Spread | None:
    return summary.spread(server, POINT, lambda sample: sample.cpu_us)


def test_spread_is_median_lowest_and_highest() -> None:
    """In whatever order they were measured; of an even number the middle of the middle two."""
    assert Spread.of([5, 1, 9, 2, 3]) == Spread(median=3, low=1, high=9)
    assert Spread.of([4, 1, 2, 3]) == Spread(median=2.5, low=1, high=4)


def test_spread_of_nothing_is_none() -> None:
    """A figure that was not measured has no median, rather than zero."""
    assert Spread.of([]) is None


def test_spread_takes_the_samples_of_its_server_and_point(results: Results) -> None:
    """Not those of other sizes, other connections or other servers."""
    results.samples = [
        make_sample("ours", cpu_us=100),
        make_sample("ours", cpu_us=300),
        make_sample("ours", cpu_us=7000, n_rows=100),
        make_sample("ours", cpu_us=7000, connections=64),
        make_sample("slow", cpu_us=7000),
    ]

    assert cpu_spread(Summary(results), "ours") == Spread(median=200, low=100, high=300)


def test_best_peer_is_neither_ours_nor_the_floor(results: Results) -> None:
    """Both are cheaper here, and neither is a peer."""
    costs = {"ours": 100, "slow": 900, "fast": 500, "floor": 10}
    results.samples = [make_sample(name, cpu_us=cost) for name, cost in costs.items()]
    summary = Summary(results)

    cheapest = summary.best_peer(lambda server: cpu_spread(summary, server))
    dearest = summary.best_peer(lambda server: cpu_spread(summary, server), highest=True)

    assert cheapest is not None
    assert (cheapest[0].name, cheapest[1]) == ("fast", 500)
    assert dearest is not None
    assert dearest[0].name == "slow"


def test_best_peer_is_none_of_those_with_a_problem(results: Results) -> None:
    """The figures of a peer that failed later do not count."""
    results.subjects = [make_subject("fast", "peer", problem="it ended")]
    results.samples = [make_sample("fast", cpu_us=1)]
    summary = Summary(results)

    assert summary.best_peer(lambda server: cpu_spread(summary, server)) is None


def test_points_are_sorted_by_rows_then_connections(results: Results) -> None:
    """As numbers."""
    results.samples = [
        make_sample("ours", n_rows=n_rows, connections=connections)
        for n_rows in (1000, 1, 100)
        for connections in (64, 8)
    ]

    summary = Summary(results)

    assert summary.points[:3] == [Point(1, 8), Point(1, 64), Point(100, 8)]
    assert summary.row_counts == [1, 100, 1000]


def test_errors_are_summed_over_the_repetitions(results: Results) -> None:
    """They have no median: one is too many. All are those and the 3,000 good ones of each."""
    results.samples = [make_sample("ours"), make_sample("ours", errors=7)]

    assert Summary(results).errors("ours", POINT) == (7, 6007)


def test_disturbed_share_counts_measurements_with_foreign_load(results: Results) -> None:
    """One of four had more than a tenth of a CPU taken from it."""
    results.samples = [make_sample("ours", foreign_cpus=cpus) for cpus in (0.0, 0.1, 0.02, 0.11)]

    assert Summary(results).disturbed_share() == 0.25
