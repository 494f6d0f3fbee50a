"""Draw a soak: ``python -m benchmarks.serving.soak_plot JSON PNG``.

Runs in the environment of the harness, which has matplotlib.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

_PANELS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("RSS and PSS of all processes, MB", "looks", {"rss": 1e-6, "pss": 1e-6}),
    ("open files and threads", "looks", {"open_files": 1, "threads": 1, "processes": 1}),
    ("requests/s", "stretches", {"requests_per_second": 1}),
    ("p99, ms", "stretches", {"p99_ms": 1}),
)


def main(soak_file: Path, image_file: Path) -> None:
    """Draw every figure over the minutes."""
    soak = json.loads(soak_file.read_text())
    figure, axes = plt.subplots(len(_PANELS), 1, figsize=(10, 3 * len(_PANELS)), sharex=True)
    for axis, (title, source, figures) in zip(axes, _PANELS, strict=True):
        for name, factor in figures.items():
            _line(axis, soak[source], name, factor)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.legend(loc="lower right", fontsize=8)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(image_file, dpi=120)


def _line(axis: plt.Axes, entries: list[dict[str, Any]], name: str, factor: float) -> None:
    minutes = [entry["seconds"] / 60 for entry in entries]
    axis.plot(minutes, [entry[name] * factor for entry in entries], label=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
