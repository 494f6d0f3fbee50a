"""Results of one run, as written to ``results.json`` and read back."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Point:
    """Rows a request and connections: one place of the grid that each server is measured at."""

    n_rows: int
    connections: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one server at one point.

    Args:
        requests: Those with a good answer; the rate and the CPU time are of these.
        cpu_us: CPU time of all its processes for one request, in microseconds.
        errors: Requests without a good answer, beside ``requests``.
        foreign_cpus: CPUs that neither the server nor the harness used, but somebody did.
    """

    server: str
    repetition: int
    n_rows: int
    connections: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    errors: int
    foreign_cpus: float


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one server; memory is what it holds after its load."""

    server: str
    repetition: int
    seconds: float
    pss_bytes: int
    processes: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A server as reports describe it. ``problem`` is empty unless it could not be measured."""

    name: str
    title: str
    role: str
    package: str
    version: str
    format: str
    workers: str
    settings: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Memory of four workers of ours with one big model; bytes.

    Args:
        copy: Growth of a plain process that loads the model once.
    """

    workers: int
    model_file: int
    copy: int
    pss: int
    start_seconds: float

    @property
    def copies(self) -> float:
        return self.pss / self.copy


@dataclass(slots=True)
class Results:
    """Results of one run."""

    began: str
    machine: dict[str, Any]
    options: dict[str, Any]
    subjects: list[Subject] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    sharing: Sharing | None = None
    duration_seconds: float = 0.0

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        values = json.loads(file.read_text())
        values["subjects"] = [Subject(**subject) for subject in values["subjects"]]
        values["samples"] = [Sample(**sample) for sample in values["samples"]]
        values["starts"] = [Start(**start) for start in values["starts"]]
        if values["sharing"] is not None:
            values["sharing"] = Sharing(**values["sharing"])
        return cls(**values)
