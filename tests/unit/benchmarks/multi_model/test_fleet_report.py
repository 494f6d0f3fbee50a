from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.multi_model import fleet_report
from benchmarks.multi_model.cycles import growth_per_cycle
from benchmarks.multi_model.fleet_results import Cycles, Latency, Results, Warm


def verdicts(results: Results) -> list[bool | None]:
    return [is_met for _, _, _, is_met in fleet_report.lines(results)]


def test_every_target_is_met_at_its_limit(results: Results) -> None:
    """60 kB, 5 and 25 ms, a ratio of 1.15: the limit itself is good enough."""
    assert verdicts(results) == [True] * 13


@pytest.mark.parametrize(
    ("part", "changes", "missed"),
    [
        ("resident", {"pss": 800_100_000}, [0, 1]),
        ("resident", {"first_loads": Latency(9, 40.1, 100, 100)}, [2]),
        ("resident", {"first_loads": Latency(9, 10, 150.1, 200)}, [2]),
        ("crowded", {"evicted": Latency(9, 5.1, 10, 10)}, [3]),
        ("resident", {"pages": Latency(9, 10.1, 10.1, 11)}, [4]),
        ("warm", {"multi_us": [116.0]}, [5]),
        ("crowded", {"loads_of_50_at_once": 2}, [6]),
        ("cycles", {"rss": [n * 28_000 for n in range(100)]}, [7]),
        ("code_cycles", {"rss": [n * 28_000 for n in range(100)]}, [8]),
        ("code", {"pss_each": 25.1e6}, [9]),
        ("code", {"loads": Latency(9, 60.1, 61, 62)}, [10]),
        ("code", {"code_us": [401.0]}, [11]),
        ("code", {"code_large_us": [6001.0]}, [12]),
    ],
)
def test_target_that_is_missed_is_called_so(
    results: Results, part: str, changes: dict[str, object], missed: list[int]
) -> None:
    """And no other."""
    setattr(results, part, replace(getattr(results, part), **changes))

    assert [index for index, met in enumerate(verdicts(results)) if met is False] == missed
    assert fleet_report.render(results).count("MISSED") == len(missed)


def test_what_was_not_measured_is_neither_met_nor_missed(results: Results) -> None:
    """A part that was left out, or too few models or cycles to say."""
    results.resident = replace(results.resident, models=9999)  # type: ignore[type-var]
    results.cycles, results.code_cycles = Cycles(1, [10**8] * 99), None
    results.crowded = results.warm = results.article = results.code = None

    assert verdicts(results) == [False, None, True, None, True, *[None] * 8]
    assert fleet_report.render(results).count("not measured") == 10


def test_report_counts_the_hits_of_each_pass(results: Results) -> None:
    """Two, two and four invocations."""
    text = fleet_report.render(results)

    assert "At most 3 were loaded at once; 0%, 100% and 50%" in text
    assert "87.5% found their model resident" in text
    assert "others used so many CPUs: article 0.25, warm 1.50." in text


def test_results_survive_being_written_and_read(results: Results, tmp_path: Path) -> None:
    """The plot shows the measured figures, and leaves out missing ones."""
    for found in (results, Results("now", "mms", {})):
        found.write(tmp_path / "results.json")
        assert Results.read(tmp_path / "results.json") == found


def test_latency_is_of_the_middle_and_of_the_slowest_hundredth() -> None:
    """Of 0 to 100 ms, one each."""
    found = Latency.of([millisecond / 1000 for millisecond in range(101)])

    assert found == Latency(101, 50.0, 99.0, 100.0)


def test_warm_ratio_is_of_medians() -> None:
    """One repetition that something disturbed says nothing."""
    assert Warm(single_us=[100, 90, 5000], multi_us=[110, 4000, 100]).ratio == 1.1


def test_growth_leaves_the_first_cycles_out() -> None:
    """Pools fill at first; after that 1,000 bytes a cycle are 1,000 bytes a cycle."""
    rss = [n * 10**6 for n in range(50)] + [10**8 + n * 1000 for n in range(50)]

    assert growth_per_cycle(Cycles(1, rss)) == pytest.approx(1000)
