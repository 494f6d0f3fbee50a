"""Report of a run: a page of Markdown, and the figures of every point as CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from benchmarks.serving.results import Point, Results, Sample, Subject
from benchmarks.serving.summary import (
    CPU_CONNECTIONS,
    DISTURBING_CPUS,
    FLOOD_CONNECTIONS,
    Spread,
    Summary,
)
from benchmarks.serving.targets import judge, rows

POINTS_FILE = "points.csv"
PLOT_FILE = "plot.png"
_DASH = "-"
_MET = {True: "met", False: "**missed**", None: "not measured"}


def render(results: Results, directory: str = "") -> str:
    """Write the page: overview and plot first.

    Args:
        results: Of one run.
        directory: Folder of `POINTS_FILE` and `PLOT_FILE`, relative to the page, with its slash.
    """
    summary = Summary(results)
    parts = [
        _overview(summary),
        f"![A bar for each server, with the range of its rounds]({directory}{PLOT_FILE})",
        _how_it_ran(summary),
        f"Requests/s, p50, p99, CPU time, errors and foreign load of every point, with the lowest"
        f" and the highest round: [{POINTS_FILE}]({directory}{POINTS_FILE}).",
        "### Targets",
        _targets(results),
        "### Servers",
        _subjects(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table: the first column to the left, the others to the right."""
    separator = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, separator, *lines))


def _how_it_ran(summary: Summary) -> str:
    results = summary.results
    machine, options = results.machine, results.options
    foreign = summary.foreign_cpus()
    return (
        f"{results.began}, {results.duration_seconds / 60:.0f} minutes; {machine['cpus']} CPUs"
        f" ({machine['cpu']}), {machine['memory_bytes'] / 1e9:.0f} GB, kernel {machine['kernel']},"
        f" Python {machine['python']}. Every point was measured {options['repetitions']} ×"
        f" {options['seconds']} s: median (lowest–highest). Meanwhile others used"
        f" {spread(foreign, '{:.2f}')} of the {machine['cpus']} CPUs, and more than"
        f" {DISTURBING_CPUS:g} in {summary.disturbed_share():.0%} of the measurements."
    )


def _targets(results: Results) -> str:
    header = ["", "target", "measured", "best peer", ""]
    lines = [
        [verdict.subject, verdict.target, verdict.measured, verdict.best_peer, _MET[verdict.is_met]]
        for verdict in judge(results)
    ]
    return table(header, lines)


def _overview(summary: Summary) -> str:
    row_counts = summary.row_counts
    header = [
        "server",
        *(f"CPU µs, {rows(n_rows)} × {CPU_CONNECTIONS}" for n_rows in row_counts),
        f"requests/s, 1 row × {FLOOD_CONNECTIONS}",
        "PSS MB",
        "start s",
    ]

    def line(subject: Subject) -> list[str]:
        name = subject.name
        costs = [
            spread(summary.spread(name, Point(n, CPU_CONNECTIONS), _cpu), "{:,.0f}")
            for n in row_counts
        ]
        rate = summary.spread(name, Point(1, FLOOD_CONNECTIONS), _rate)
        return [
            subject.title,
            *costs,
            spread(rate, "{:,.0f}"),
            spread(summary.pss_bytes(name), "{:,.0f}", 1e-6),
            spread(summary.start_seconds(name), "{:.2f}"),
        ]

    return table(header, map(line, summary.subjects))


def points_csv(results: Results) -> str:
    """Write one line for each point and server, with the median and the range of each figure."""
    summary = Summary(results)
    figures: dict[str, Callable[[Sample], float]] = {
        "requests_per_second": _rate,
        "p50_ms": lambda sample: sample.p50_ms,
        "p99_ms": lambda sample: sample.p99_ms,
        "cpu_us": _cpu,
        "foreign_cpus": lambda sample: sample.foreign_cpus,
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranges = [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    writer.writerow(["rows", "connections", "server", *ranges, "errors", "requests"])
    for point in summary.points:
        for subject in summary.subjects:
            cells = [
                cell
                for figure in figures.values()
                for cell in _range(summary.spread(subject.name, point, figure))
            ]
            ends = summary.errors(subject.name, point)
            writer.writerow([point.n_rows, point.connections, subject.title, *cells, *ends])
    return text.getvalue()


def _range(found: Spread | None) -> list[str]:
    """Write median, lowest and highest; empty cells where nothing was measured."""
    if found is None:
        return ["", "", ""]
    return [f"{value:.6g}" for value in (found.median, found.low, found.high)]


def _subjects(results: Results) -> str:
    return "\n".join(map(_subject, results.subjects))


def _subject(subject: Subject) -> str:
    problem = f" *Not measured: {subject.problem}*" if subject.problem else ""
    return (
        f"- **{subject.title}** ({subject.package} {subject.version}): {subject.workers}; asked in"
        f" {subject.format}; {subject.settings}.{problem}"
    )


def spread(found: Spread | None, form: str, scale: float = 1.0) -> str:
    """Write a median with its range, or the median alone where both ends round to it."""
    if found is None:
        return _DASH
    median, low, high = (
        form.format(value * scale) for value in (found.median, found.low, found.high)
    )
    return median if low == median == high else f"{median} ({low}–{high})"


def _cpu(sample: Sample) -> float:
    return sample.cpu_us


def _rate(sample: Sample) -> float:
    return sample.requests_per_second
