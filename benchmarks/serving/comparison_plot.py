"""Draw a comparison: ``python -m benchmarks.serving.comparison_plot RESULTS PNG``.

Runs in the environment of the harness, which has matplotlib.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.serving.results import Point, Results, Sample
from benchmarks.serving.summary import CPU_CONNECTIONS, FLOOD_CONNECTIONS, Spread, Summary
from benchmarks.serving.targets import rows, tail

_COLOURS = {"ours": "tab:blue", "peer": "tab:grey", "floor": "tab:olive"}


def main(results_file: Path, image_file: Path) -> None:
    """Draw one panel a figure, a bar a server, with the lowest and the highest repetition."""
    summary = Summary(Results.read(results_file))
    panels = _panels(summary)
    n_columns = 3
    n_lines = -(-len(panels) // n_columns)
    figure, axes = plt.subplots(n_lines, n_columns, figsize=(15, 4 * n_lines), sharey=True)
    for axis, (title, figure_of) in zip(axes.flat, panels, strict=False):
        _draw(axis, summary, title, figure_of)
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()
    axes.flat[0].invert_yaxis()  # of all panels, as they share it
    figure.tight_layout()
    figure.savefig(image_file, dpi=120)


Figure = Callable[[str], Spread | None]


def _panels(summary: Summary) -> list[tuple[str, Figure]]:
    def at(point: Point, of: Callable[[Sample], float]) -> Figure:
        return lambda server: summary.spread(server, point, of)

    panels = [
        (
            f"CPU µs a request, {rows(n_rows)}, {CPU_CONNECTIONS} connections",
            at(Point(n_rows, CPU_CONNECTIONS), lambda sample: sample.cpu_us),
        )
        for n_rows in summary.row_counts
    ]
    flood = Point(1, FLOOD_CONNECTIONS)
    tails = Point(1, CPU_CONNECTIONS)
    return [
        *panels,
        (
            f"requests/s, 1 row, {FLOOD_CONNECTIONS} connections",
            at(flood, lambda sample: sample.requests_per_second),
        ),
        (f"p99 ÷ p50, 1 row, {CPU_CONNECTIONS} connections", at(tails, tail)),
        ("start to first right answer, s", summary.start_seconds),
        ("PSS, MB", lambda server: _scaled(summary.pss_bytes(server), 1e-6)),
    ]


def _scaled(spread: Spread | None, factor: float) -> Spread | None:
    if spread is None:
        return None
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor)


def _draw(axis: plt.Axes, summary: Summary, title: str, figure_of: Figure) -> None:
    titles = [subject.title for subject in summary.subjects]
    for line, subject in enumerate(summary.subjects):
        spread = figure_of(subject.name)
        if spread is None:
            continue
        reach = [[spread.median - spread.low], [spread.high - spread.median]]
        axis.barh(line, spread.median, xerr=reach, color=_COLOURS[subject.role], capsize=2)
        axis.annotate(f" {_short(spread.median)}", (spread.high, line), va="center", fontsize=8)
    axis.set_yticks(range(len(titles)), titles, fontsize=8)
    axis.set_title(title, fontsize=10)
    axis.margins(x=0.18)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
