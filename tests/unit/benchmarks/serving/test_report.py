"""The report in Markdown, and the figures of every point as CSV."""

import csv
from pathlib import Path

import pytest

from benchmarks.serving import report
from benchmarks.serving.results import Results, Sharing
from benchmarks.serving.summary import Spread
from tests.unit.benchmarks.conftest import make_sample, make_subject


def test_table_is_markdown_with_numbers_to_the_right() -> None:
    """Header, line, and a line for each entry."""
    assert report.table(["server", "µs"], [["ours", "1"], ["KServe", "2"]]) == (
        "| server | µs |\n| --- | ---: |\n| ours | 1 |\n| KServe | 2 |"
    )


@pytest.mark.parametrize(
    ("found", "form", "scale", "text"),
    [
        (Spread(1234.5, 1200, 1300.4), "{:,.0f}", 1.0, "1,234 (1,200–1,300)"),
        (Spread(1.001, 1.0, 1.004), "{:.2f}", 1.0, "1.00"),
        (Spread(110e6, 109e6, 111e6), "{:.0f}", 1e-6, "110 (109–111)"),
        (None, "{:.2f}", 1.0, "-"),
    ],
)
def test_spread_is_written_with_its_range(
    found: Spread | None, form: str, scale: float, text: str
) -> None:
    """The range is left out where it would only repeat the median."""
    assert report.spread(found, form, scale) == text


def test_render_shows_every_server_and_problem(results: Results) -> None:
    """A server that failed is in no table and its reason in the list."""
    results.subjects.append(make_subject("broken", "peer", problem="it ended"))
    results.samples = [
        make_sample("ours", cpu_us=cost, foreign_cpus=0.5) for cost in (190, 200, 220)
    ]
    results.samples += [make_sample("fast", cpu_us=1000), make_sample("fast", errors=2)]

    text = report.render(results)

    assert "| OURS | 200 (190–220) |" in text
    assert "| BROKEN |" not in text
    assert "**BROKEN** (broken 1.0): 2 processes; asked in CSV; as it comes. *Not" in text
    assert "others used 0.50 (0.25–0.50) of the 2 CPUs, and more than 0.1 in 100% of" in text


def test_render_begins_with_the_overview_and_the_plot(results: Results) -> None:
    """The plot and the points are linked in the folder beside the page."""
    results.samples = [make_sample("ours")]

    overview, plot, *_ = report.render(results, "benchmarks/").split("\n\n")

    assert overview.startswith("| server |")
    assert plot.endswith("(benchmarks/plot.png)")
    assert "(benchmarks/points.csv)" in report.render(results, "benchmarks/")


def test_points_are_lines_with_median_lowest_and_highest(results: Results) -> None:
    """Every server has a line at every point, with empty cells where it was not measured."""
    results.samples = [make_sample("ours", cpu_us=cost) for cost in (190, 200, 220)]
    results.samples += [make_sample("fast", errors=2), make_sample("slow", n_rows=100)]

    lines = list(csv.DictReader(report.points_csv(results).splitlines()))

    assert [(line["rows"], line["server"]) for line in lines] == [
        (n_rows, server) for n_rows in ("1", "100") for server in ("OURS", "SLOW", "FAST", "FLOOR")
    ]
    ours, slow, fast, _ = lines[:4]
    assert [ours[f"cpu_us{end}"] for end in ("", "_low", "_high")] == ["200", "190", "220"]
    assert (ours["connections"], ours["p99_ms"], ours["errors"]) == ("8", "2", "0")
    assert (fast["errors"], fast["requests"]) == ("2", "3002")
    assert slow["cpu_us"] == ""


def test_results_survive_being_written_and_read(results: Results, tmp_path: Path) -> None:
    """The published figures are the measured ones."""
    results.samples = [make_sample("ours")]
    results.sharing = Sharing(workers=4, model_file=1, copy=2, pss=3, start_seconds=4.0)
    file = tmp_path / "results.json"

    results.write(file)

    assert Results.read(file) == results
