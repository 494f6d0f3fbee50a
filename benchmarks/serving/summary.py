"""Medians and spreads of the repetitions, and who is best."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.harness.servers import Role
from benchmarks.serving.results import Point, Results, Sample, Subject

CPU_CONNECTIONS = 8  # where CPU per request is compared
FLOOD_CONNECTIONS = 64  # where requests per second are compared

DISTURBING_CPUS = 0.1


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return ``None`` of no values."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1]) if found else None


class Summary:
    """Answers questions about the results of a run; ``None`` where there is nothing measured."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.subjects = [subject for subject in results.subjects if not subject.problem]
        self._samples: dict[tuple[str, Point], list[Sample]] = {}
        for sample in results.samples:
            point = Point(sample.n_rows, sample.connections)
            self._samples.setdefault((sample.server, point), []).append(sample)

    @property
    def points(self) -> list[Point]:
        found = {point for _, point in self._samples}
        return sorted(found, key=lambda point: (point.n_rows, point.connections))

    @property
    def row_counts(self) -> list[int]:
        return sorted({point.n_rows for point in self.points})

    @property
    def ours(self) -> Subject | None:
        return next((subject for subject in self.subjects if subject.role == Role.OURS), None)

    @property
    def peers(self) -> list[Subject]:
        return [subject for subject in self.subjects if subject.role == Role.PEER]

    def spread(self, server: str, point: Point, figure: Callable[[Sample], float]) -> Spread | None:
        return Spread.of(map(figure, self._samples.get((server, point), [])))

    def errors(self, server: str, point: Point) -> tuple[int, int]:
        """Return failed and all requests of all repetitions."""
        samples = self._samples.get((server, point), [])
        failed = sum(sample.errors for sample in samples)
        return failed, failed + sum(sample.requests for sample in samples)

    def start_seconds(self, server: str) -> Spread | None:
        return Spread.of(start.seconds for start in self.results.starts if start.server == server)

    def pss_bytes(self, server: str) -> Spread | None:
        return Spread.of(start.pss_bytes for start in self.results.starts if start.server == server)

    def foreign_cpus(self) -> Spread | None:
        return Spread.of(sample.foreign_cpus for sample in self.results.samples)

    def disturbed_share(self) -> float:
        """Return in which part of the measurements others used more than a tenth of a CPU."""
        samples = self.results.samples
        disturbed = [sample for sample in samples if sample.foreign_cpus > DISTURBING_CPUS]
        return len(disturbed) / max(len(samples), 1)

    def best_peer(
        self, figure: Callable[[str], Spread | None], *, highest: bool = False
    ) -> tuple[Subject, float] | None:
        """Find the peer with the lowest (or highest) median of a figure."""
        found = [
            (subject, spread.median)
            for subject in self.peers
            if (spread := figure(subject.name)) is not None
        ]
        pick = max if highest else min
        return pick(found, key=lambda pair: pair[1]) if found else None
