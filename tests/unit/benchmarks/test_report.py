"""The report in Markdown."""

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.results import Results, Sharing
from benchmarks.summary import Spread
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


def test_render_shows_every_server_point_and_problem(results: Results) -> None:
    """A server that failed is in no table and its reason in the list."""
    results.subjects.append(make_subject("broken", "peer", problem="it ended"))
    results.samples = [
        make_sample("ours", cpu_us=cost, foreign_cpus=0.5) for cost in (190, 200, 220)
    ]
    results.samples += [make_sample("fast", cpu_us=1000), make_sample("fast", errors=2)]

    text = report.render(results)

    assert "| 1 × 8, OURS | 1,000 | 1.00 | 2.00 | 200 (190–220) | 0 | 0.50 |" in text
    assert "| 2 of 6,002 |" in text
    assert "| BROKEN |" not in text
    assert "**BROKEN** (broken 1.0): 2 processes; asked in CSV; as it comes. *Not" in text
    assert "others used 0.50 (0.25–0.50) of the 2 CPUs, and more than 0.1 in 100% of" in text


def test_results_survive_being_written_and_read(results: Results, tmp_path: Path) -> None:
    """The published figures are the measured ones."""
    results.samples = [make_sample("ours")]
    results.sharing = Sharing(workers=4, model_file=1, copy=2, pss=3, start_seconds=4.0)
    file = tmp_path / "results.json"

    results.write(file)

    assert Results.read(file) == results
