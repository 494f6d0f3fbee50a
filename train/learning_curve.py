"""Learning curve of a job as a PNG: a panel for each metric, a line for each channel.

Pillow draws it: matplotlib would add 79 MB to the image, 1.6 s of import (Pillow: 0.1 s) and 30 MB
to the peak memory of a job. The picture is drawn at twice its size and scaled down, which smooths
the lines.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Scores = Sequence[Mapping[str, float]]

_SCALE = 2
_WIDTH, _HEIGHT = 620, 380  # of a panel
_LEFT, _TOP, _RIGHT, _BOTTOM = 72, 44, 20, 46  # its margins
_FONT_SIZE = 13
_COLOURS = ("#1f6fb4", "#d9581c", "#3a8f3a", "#7a4fa3")
_INK, _FAINT = "#333333", "#dddddd"
_MAX_POINTS = 1500  # more than there are pixels
_MAX_COLUMNS = 2
_N_TICKS = 5


def draw(history: Scores, best_iteration: int | None, file: Path) -> None:
    """Write a PNG.

    Args:
        history: One entry a round, `{"train-rmse": 1.2, "validation-rmse": 1.3}`; at least one.
            What is not finite leaves a gap.
        best_iteration: Marked by a line, where there is one.
        file: Where to write.
    """
    from PIL import Image, ImageDraw  # needs 10 MB, and only at the end of a job

    metrics = _by_metric(history)
    n_columns = min(_MAX_COLUMNS, len(metrics))
    width, height = _WIDTH * n_columns, _HEIGHT * math.ceil(len(metrics) / n_columns)
    image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
    canvas = ImageDraw.Draw(image)
    for index, (metric, channels) in enumerate(metrics.items()):
        column, row = index % n_columns, index // n_columns
        panel = _Panel.of(canvas, column * _WIDTH, row * _HEIGHT, channels)
        panel.draw_axes(metric)
        panel.draw_lines(channels, best_iteration)
    image.reduce(_SCALE).save(file, "PNG", optimize=True)


def _by_metric(history: Scores) -> dict[str, dict[str, list[float]]]:
    """Group the scores by metric and channel, `{"rmse": {"train": [...], "validation": [...]}}`."""
    metrics: dict[str, dict[str, list[float]]] = {}
    for name in history[0]:
        channel, _, metric = name.partition("-")
        metrics.setdefault(metric, {})[channel] = [scores.get(name, math.nan) for scores in history]
    return metrics


@dataclass(frozen=True, slots=True)
class _Panel:
    """One pair of axes: rounds across, the metric up."""

    canvas: "ImageDraw"
    left: float
    top: float
    last_round: int
    lowest: float
    highest: float

    @classmethod
    def of(
        cls, canvas: "ImageDraw", left: float, top: float, channels: Mapping[str, Sequence[float]]
    ) -> "_Panel":
        """Make a panel whose axes hold every finite value."""
        values = [v for line in channels.values() for v in line if math.isfinite(v)] or [0.0]
        lowest, highest = min(values), max(values)
        margin = (highest - lowest) * 0.05 or abs(highest) * 0.05 or 1.0
        last_round = max(1, *(len(line) - 1 for line in channels.values()))
        return cls(canvas, left, top, last_round, lowest - margin, highest + margin)

    def draw_axes(self, metric: str) -> None:
        for value in _ticks(self.lowest, self.highest):
            self._line([self._point(0, value), self._point(self.last_round, value)], _FAINT)
            self._text(self._point(0, value), f"{value:g}", "rm", shift=(-8, 0))
        floor = self.lowest
        for value in _ticks(0, self.last_round):
            if value == int(value):
                self._text(self._point(value, floor), f"{value:g}", "mt", shift=(0, 7))
        self._line([self._point(0, floor), self._point(self.last_round, floor)], _INK)
        self._line([self._point(0, floor), self._point(0, self.highest)], _INK)
        middle = self._point(self.last_round / 2, floor)
        self._text(middle, "round", "mt", shift=(0, 25))
        self._text((self.left + _LEFT, self.top + 14), metric, "lm", shift=(0, 0))

    def draw_lines(
        self, channels: Mapping[str, Sequence[float]], best_iteration: int | None
    ) -> None:
        if best_iteration is not None:
            ends = [self._point(best_iteration, y) for y in (self.lowest, self.highest)]
            self._line(ends, _INK)
            self._text(ends[1], f"best: {best_iteration}", "mb", shift=(0, -2))
        right = self.left + _WIDTH - _RIGHT
        for index, (channel, values) in enumerate(channels.items()):
            colour = _COLOURS[index % len(_COLOURS)]
            for piece in _pieces(values):
                points = [self._point(x, y) for x, y in piece]
                self._line(points, colour, width=2)
                if len(points) == 1:
                    self._dot(points[0], colour)
            self._text((right - 110 * index, self.top + 14), channel, "rm", colour=colour)

    def _point(self, x: float, y: float) -> tuple[float, float]:
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        share = (y - self.lowest) / (self.highest - self.lowest)
        return (
            self.left + _LEFT + width * x / self.last_round,
            self.top + _TOP + height * (1 - share),
        )

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self.canvas.line(scaled, fill=colour, width=width * _SCALE, joint="curve")

    def _dot(self, point: tuple[float, float], colour: str) -> None:
        x, y = point
        box = [(side * _SCALE) for side in (x - 3, y - 3, x + 3, y + 3)]
        self.canvas.ellipse(box, fill=colour)

    def _text(
        self,
        point: tuple[float, float],
        text: str,
        anchor: str,
        *,
        shift: tuple[float, float] = (0, 0),
        colour: str = _INK,
    ) -> None:
        position = ((point[0] + shift[0]) * _SCALE, (point[1] + shift[1]) * _SCALE)
        self.canvas.text(position, text, fill=colour, anchor=anchor, font_size=_FONT_SIZE * _SCALE)


def _pieces(values: Sequence[float]) -> Iterator[list[tuple[int, float]]]:
    """Yield the runs of finite values as (round, value), sampled if there are too many."""
    step = math.ceil(len(values) / _MAX_POINTS)
    piece: list[tuple[int, float]] = []
    for index in range(0, len(values), step):
        if math.isfinite(values[index]):
            piece.append((index, values[index]))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _ticks(lowest: float, highest: float) -> list[float]:
    """Return about five round numbers between the two."""
    rough = (highest - lowest) / _N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(lowest / step)
    n_digits = max(0, 2 - math.floor(math.log10(step)))
    return [
        round(number * step, n_digits) for number in range(first, math.floor(highest / step) + 1)
    ]
