"""The report of a run in Markdown."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.results import Point, Results, Sample, Subject
from benchmarks.summary import (
    CPU_CONNECTIONS,
    DISTURBING_CPUS,
    FLOOD_CONNECTIONS,
    Spread,
    Summary,
)
from benchmarks.targets import judge, rows

_DASH = "-"
_MET = {True: "met", False: "**missed**", None: "not measured"}


def render(results: Results) -> str:
    """Write the whole report."""
    summary = Summary(results)
    parts = [
        _how_it_ran(summary),
        "### Targets",
        _targets(results),
        "### Overview",
        _overview(summary),
        "### Every point",
        _every_point(summary),
        "### What was compared",
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


def _every_point(summary: Summary) -> str:
    header = [
        "rows × connections, server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU µs",
        "errors",
        "CPUs used by others",
    ]

    def line(point: Point, subject: Subject) -> list[str]:
        def figure(of: Callable[[Sample], float], form: str) -> str:
            return spread(summary.spread(subject.name, point, of), form)

        failed, total = summary.errors(subject.name, point)
        return [
            f"{point.n_rows} × {point.connections}, {subject.title}",
            figure(_rate, "{:,.0f}"),
            figure(lambda sample: sample.p50_ms, "{:.2f}"),
            figure(lambda sample: sample.p99_ms, "{:.2f}"),
            figure(_cpu, "{:,.0f}"),
            f"{failed:,} of {total:,}" if failed else "0",
            figure(lambda sample: sample.foreign_cpus, "{:.2f}"),
        ]

    return table(
        header, (line(point, subject) for point in summary.points for subject in summary.subjects)
    )


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
