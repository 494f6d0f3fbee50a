"""Growth of this server under full load for a long time.

wrk runs in stretches, so that connections come and go, with requests of all sizes in turn. Memory,
files and threads are read once a second, while the connections of a stretch are open.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import load
from benchmarks.harness.model_files import Questions
from benchmarks.harness.running import Running
from benchmarks.serving.report import table

CONNECTIONS = 64
_STRETCH_SECONDS = 15
_SETTLING_SHARE = 0.2  # of the time: pools, caches and the allocator fill
_LEAST_SECONDS = 600.0  # a shorter soak says nothing about growth
_END_SECONDS = 300.0  # the first and the last five minutes are compared
_FLAT_BYTES = 2e6  # by so much their medians may differ


@dataclass(frozen=True, slots=True)
class Look:
    """Memory, files and threads of all processes of the server at a moment; memory in bytes."""

    seconds: float
    rss: int
    pss: int
    open_files: int
    threads: int
    processes: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """One run of wrk that ended at ``seconds``."""

    seconds: float
    requests_per_second: float
    p99_ms: float
    errors: int


@dataclass(slots=True)
class Soak:
    looks: list[Look]
    stretches: list[Stretch]

    def write(self, directory: Path) -> None:
        """Write soak.json and soak.md."""
        content = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        (directory / "soak.json").write_text(content)
        (directory / "soak.md").write_text(render(self))

    @property
    def settled(self) -> list[Look]:
        """Return the looks after the time in which every server grows."""
        began = self.looks[-1].seconds * _SETTLING_SHARE
        return [look for look in self.looks if look.seconds >= began]


def run(server: Running, questions: Questions, *, seconds: float) -> Soak:
    """Load the server for the given time, in whole stretches."""
    format_ = server.server.format
    bodies = [questions.body_file(format_, n_rows) for n_rows in questions.row_counts]
    began = time.monotonic()
    soak = Soak([], [])

    def look() -> None:
        footprint = dataclasses.asdict(server.footprint())
        soak.looks.append(Look(seconds=time.monotonic() - began, **footprint))

    while time.monotonic() - began < seconds:
        result = load.run(
            server.url + server.server.route,
            format_.content_type,
            bodies,
            connections=CONNECTIONS,
            seconds=_STRETCH_SECONDS,
            look=look,
        )
        now = time.monotonic() - began
        stretch = Stretch(now, result.requests_per_second, result.p99_ms, result.errors.total)
        soak.stretches.append(stretch)
        server.forget_output()
        last = soak.looks[-1]
        print(
            f"bench: {now:5.0f} s: {stretch.requests_per_second:,.0f}/s,"
            f" RSS {last.rss / 1e6:.1f} MB, {last.open_files} files, {last.threads} threads,"
            f" {stretch.errors} errors",
            flush=True,
        )
    return soak


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Fit a line by least squares; return its rise for one of x, and 0 for fewer than two x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def render(soak: Soak) -> str:
    """Say whether it was flat, in Markdown."""
    looks = soak.settled
    half = max(len(looks) // 2, 1)
    seconds = soak.stretches[-1].seconds
    rates = [stretch.requests_per_second for stretch in soak.stretches]
    per_second = slope([(look.seconds, look.rss) for look in looks])
    per_million = per_second / statistics.mean(rates) * 1e6
    growth = _median_rss(soak, after=seconds - _END_SECONDS) - _median_rss(soak, to=_END_SECONDS)

    def verdict(is_flat: bool) -> str:
        if seconds < _LEAST_SECONDS:
            return "too short to say"
        return "flat" if is_flat else "**grows**"

    lines = [
        [
            "RSS, last five minutes against the first five",
            f"{growth / 1e6:+.2f} MB",
            verdict(growth <= _FLAT_BYTES),
        ],
        ["RSS, slope per million requests", f"{per_million / 1e6:+.2f} MB", ""],
    ]
    for title, name in (("open files", "open_files"), ("threads", "threads")):
        early, late = (max(_figure(part, name)) for part in (looks[:half], looks[-half:]))
        lines.append([f"{title}, most in each half", f"{early}, {late}", verdict(late <= early)])
    errors = sum(stretch.errors for stretch in soak.stretches)
    lines += [
        ["requests/s, first and last stretch", f"{rates[0]:,.0f}, {rates[-1]:,.0f}", ""],
        ["errors", f"{errors}", "**errors**" if errors else "none"],
    ]
    title = f"{seconds / 60:.0f} min at full load, {CONNECTIONS} connections"
    return table([title, "", ""], lines) + "\n"


def _median_rss(soak: Soak, *, after: float = 0.0, to: float = float("inf")) -> float:
    """Return the median RSS in bytes of the looks between two times in seconds."""
    return statistics.median(look.rss for look in soak.looks if after <= look.seconds <= to)


def _figure(looks: Sequence[Look], name: str) -> list[Any]:
    return [getattr(look, name) for look in looks]
