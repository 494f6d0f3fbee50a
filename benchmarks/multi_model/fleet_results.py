"""Results of one run, as written to ``multi_model_ENGINE.json`` and read back."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of requests sent one after the other."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Summarise at least two times."""
        hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
        times = (hundredths[49], hundredths[98], max(seconds))
        return cls(len(seconds), *(round(1000 * time, 3) for time in times))


@dataclass(frozen=True, slots=True)
class Step:
    """One invocation of the article's experiment, and the state after it."""

    model: int
    is_hit: bool
    loaded: int
    pss: int


@dataclass(frozen=True, slots=True)
class Article:
    """The article's experiment; ``memory`` is what the server was given, in bytes."""

    models: int
    model_bytes: int
    memory: int
    most_loaded: int
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of one worker with all small models loaded; bytes."""

    models: int
    model_file_bytes: int
    pss_before: int
    pss: int
    first_loads: Latency
    pages: Latency

    @property
    def pss_each(self) -> float:
        return (self.pss - self.pss_before) / self.models


@dataclass(frozen=True, slots=True)
class Traffic:
    """A stretch of invocations by Zipf's law: the share that found its model, and their times."""

    invocations: int
    hit_share: float
    resident: int
    latency: Latency


@dataclass(frozen=True, slots=True)
class Crowded:
    """A budget that holds half of the models."""

    models: int
    budget_mebibytes: int
    stretches: list[Traffic]
    evicted: Latency  # invocations whose model had to be loaded
    loads_of_50_at_once: int


@dataclass(frozen=True, slots=True)
class Warm:
    """CPU µs of one invocation of one resident model; medians of interleaved repetitions."""

    single_us: list[float]
    multi_us: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.multi_us) / statistics.median(self.single_us)


@dataclass(frozen=True, slots=True)
class Cycles:
    """Resident bytes of all processes after each load, invocation and unload of one model."""

    model_file_bytes: int
    rss: list[int]


@dataclass(frozen=True, slots=True)
class CodeModels:
    """Models with code: memory, loads, and CPU µs of a request without and with code."""

    models: int
    pss_each: float
    loads: Latency
    plain_us: list[float]  # of one record
    code_us: list[float]
    plain_large_us: list[float]  # of a body of 1 MB
    code_large_us: list[float]

    @property
    def border_us(self) -> float:
        """CPU time that the process border adds to a request of one record."""
        return statistics.median(self.code_us) - statistics.median(self.plain_us)

    @property
    def large_border_us(self) -> float:
        """The same of a request with a body of 1 MB."""
        return statistics.median(self.code_large_us) - statistics.median(self.plain_large_us)


@dataclass(slots=True)
class Results:
    """Results of one run; a part that was not measured is ``None``.

    Args:
        foreign_cpus: CPUs that others used while each part was measured.
    """

    began: str
    engine: str
    machine: dict[str, Any]
    article: Article | None = None
    resident: Resident | None = None
    crowded: Crowded | None = None
    warm: Warm | None = None
    cycles: Cycles | None = None
    code_cycles: Cycles | None = None  # of a model with its own code
    code: CodeModels | None = None
    foreign_cpus: dict[str, float] = field(default_factory=dict)
    duration_seconds: float = 0.0

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        return cls(**_typed(json.loads(file.read_text())))


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Convert decoded JSON to the classes above."""
    if article := values["article"]:
        article["steps"] = [Step(**step) for step in article["steps"]]
        values["article"] = Article(**article)
    if resident := values["resident"]:
        for name in ("first_loads", "pages"):
            resident[name] = Latency(**resident[name])
        values["resident"] = Resident(**resident)
    if crowded := values["crowded"]:
        stretches = [{**s, "latency": Latency(**s["latency"])} for s in crowded["stretches"]]
        crowded["stretches"] = [Traffic(**stretch) for stretch in stretches]
        crowded["evicted"] = Latency(**crowded["evicted"])
        values["crowded"] = Crowded(**crowded)
    if code := values.get("code"):
        values["code"] = CodeModels(**code | {"loads": Latency(**code["loads"])})
    for name, kind in (("warm", Warm), ("cycles", Cycles), ("code_cycles", Cycles)):
        if values.get(name):  # results of old have not all
            values[name] = kind(**values[name])
    return values
