"""Draw a run: ``python -m benchmarks.multi_model.fleet_plot JSON PNG``.

Runs in the environment of the harness, which has matplotlib.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.multi_model.fleet_results import Article, Crowded, Cycles, Results

_HIT_WINDOW = 10  # invocations, as CloudWatch averages over a minute
Panel = Callable[[plt.Axes], None]


def main(results_file: Path, image_file: Path) -> None:
    """Draw one panel a measurement, one below the other."""
    panels = list(_panels(Results.read(results_file)))
    figure, axes = plt.subplots(len(panels), 1, figsize=(10, 3 * len(panels)), squeeze=False)
    for axis, draw in zip(axes.flat, panels, strict=True):
        draw(axis)
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    figure.tight_layout()
    figure.savefig(image_file, dpi=120)


def _panels(results: Results) -> "list[Panel]":
    found: list[Panel] = []
    if article := results.article:
        found += [
            lambda axis: _loaded(axis, article),
            lambda axis: _memory(axis, article),
            lambda axis: _hits(axis, article),
        ]
    if crowded := results.crowded:
        found.append(lambda axis: _traffic(axis, crowded))
    if cycles := results.cycles:
        size = cycles.model_file_bytes / 1e6
        found.append(lambda axis: _cycles(axis, cycles, f"a {size:.0f} MB model"))
    if code_cycles := results.code_cycles:
        found.append(lambda axis: _cycles(axis, code_cycles, "a model with its own code"))
    return found


def _passes(axis: plt.Axes, article: Article, title: str) -> None:
    half = article.models // 2
    for boundary in (half, 2 * half):
        axis.axvline(boundary, color="tab:grey", linestyle="--", linewidth=0.8)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(f"invocations: models 1–{half}, 1–{half}, 1–{article.models}")


def _loaded(axis: plt.Axes, article: Article) -> None:
    axis.plot([step.loaded for step in article.steps])
    _passes(axis, article, f"LoadedModelCount, of {article.models} copies of one model")


def _memory(axis: plt.Axes, article: Article) -> None:
    axis.plot([100 * step.pss / article.memory for step in article.steps])
    megabytes = f"{article.memory / 1e6:.0f} MB"
    _passes(axis, article, f"MemoryUtilization, percent of {megabytes} (PSS of all processes)")


def _hits(axis: plt.Axes, article: Article) -> None:
    hits = [float(step.is_hit) for step in article.steps]
    sums = [0.0, *itertools.accumulate(hits)]
    ends = range(_HIT_WINDOW, len(sums))
    averages = [(sums[end] - sums[end - _HIT_WINDOW]) / _HIT_WINDOW for end in ends]
    axis.plot(list(ends), averages)
    axis.set_xlim(*axis.figure.axes[0].get_xlim())
    _passes(axis, article, f"ModelCacheHit, average of {_HIT_WINDOW} invocations")


def _traffic(axis: plt.Axes, crowded: Crowded) -> None:
    sent = list(itertools.accumulate(stretch.invocations for stretch in crowded.stretches))
    axis.plot(sent, [stretch.hit_share for stretch in crowded.stretches], label="ModelCacheHit")
    resident = [stretch.resident / crowded.models for stretch in crowded.stretches]
    axis.plot(sent, resident, label="resident share of the models")
    axis.set_title(
        f"{crowded.models:,} models, memory for half of them, traffic by Zipf's law", fontsize=10
    )
    axis.set_xlabel("invocations")
    axis.legend(loc="lower right", fontsize=8)


def _cycles(axis: plt.Axes, cycles: Cycles, what: str) -> None:
    axis.plot([rss / 1e6 for rss in cycles.rss])
    axis.set_title(f"RSS of all processes, MB, each time that {what} is unloaded", fontsize=10)
    axis.set_xlabel("loads, each followed by an invocation and an unload")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
