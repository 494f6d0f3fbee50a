"""Report of the training runs as a page of Markdown, with the verdict on each target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median

from benchmarks.training.job_runs import OURS, Run

TITLES = {
    OURS: "this container",
    "pandas": "pandas.read_csv, DMatrix, train",
    "aws": "as AWS's container: DMatrix reads the file",
}
LOADING_TARGET = 3.0
# Size of the CSV in GB: the largest share of what pandas takes.
MEMORY_TARGETS = {1.0: 0.5, 3.0: 0.35}


@dataclass(frozen=True, slots=True)
class Likeness:
    """One model beside the one of pandas, on the first rows of the data."""

    subject: str
    logloss: float
    mean_difference: float  # of predicted probabilities


def render(
    runs: Sequence[Run], likenesses: Mapping[float, Sequence[Likeness]], facts: Mapping[str, object]
) -> str:
    """Tables of medians, one a size; `likenesses` by size in GB."""
    lines = [
        f"Measured on {facts['cpus']} CPUs, {facts['cpu']}, Python {facts['python']}. Seconds by "
        "the clock, and in brackets of CPU time; medians.",
        "",
    ]
    for size in sizes(runs):
        lines += [f"### {size:g} GB of CSV, 28 columns", "", *_table(runs, size, likenesses), ""]
    lines += ["### Targets", "", *targets(runs)]
    return "\n".join(lines) + "\n"


def sizes(runs: Sequence[Run]) -> list[float]:
    """The sizes measured, in GB as asked for."""
    return sorted({run.size_gb for run in runs})


def targets(runs: Sequence[Run]) -> list[str]:
    """A target and the figure that was measured."""
    found = []
    for size in sizes(runs):
        ours, pandas = _of(runs, size, OURS), _of(runs, size, "pandas")
        if not (ours and pandas):
            continue
        speed = _median(pandas, "loaded.wall") / _median(ours, "loaded.wall")
        found.append(
            _verdict(
                f"{size:g} GB, loading",
                f"{speed:.1f} x as fast as pandas",
                speed >= LOADING_TARGET,
                f">= {LOADING_TARGET:g}",
            )
        )
        memory = _median(ours, "peak_memory") / _median(pandas, "peak_memory")
        if size in MEMORY_TARGETS:
            target = MEMORY_TARGETS[size]
            found.append(
                _verdict(
                    f"{size:g} GB, memory",
                    f"{memory:.2f} x that of pandas",
                    memory <= target,
                    f"<= {target:g}",
                )
            )
    return found


def _verdict(what: str, measured: str, is_met: bool, target: str) -> str:
    return f"- {what}: {measured} ({target}: {'met' if is_met else 'MISSED'})"


def _table(
    runs: Sequence[Run], size: float, likenesses: Mapping[float, Sequence[Likeness]]
) -> list[str]:
    rows = [
        "| | loaded | first tree | whole job | peak memory MB | log loss | differs by |",
        "|---|---|---|---|---|---|---|",
    ]
    alike = {likeness.subject: likeness for likeness in likenesses.get(size, ())}
    for subject, title in TITLES.items():
        chosen = _of(runs, size, subject)
        if not chosen:
            continue
        cells = [
            f"{_median(chosen, f'{name}.wall'):.1f} ({_median(chosen, f'{name}.cpu'):.1f})"
            for name in ("loaded", "first_tree", "job")
        ]
        cells.append(f"{_median(chosen, 'peak_memory') / 1e6:,.0f}")
        if subject in alike:
            cells += [f"{alike[subject].logloss:.5f}", f"{alike[subject].mean_difference:.5f}"]
        else:
            cells += ["", ""]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return rows


def _of(runs: Sequence[Run], size: float, subject: str) -> list[Run]:
    return [run for run in runs if run.subject == subject and run.size_gb == size]


def _median(runs: Sequence[Run], name: str) -> float:
    return float(median(attrgetter(name)(run) for run in runs))
