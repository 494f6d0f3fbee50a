"""Runs made of few numbers, worked out by hand."""

import pytest

from benchmarks.serving.results import Results, Sample, Start, Subject


def make_sample(server: str, *, n_rows: int = 1, connections: int = 8, **figures: float) -> Sample:
    values = {"requests_per_second": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": 100.0}
    values |= figures
    return Sample(
        server=server,
        repetition=1,
        n_rows=n_rows,
        connections=connections,
        requests=3000,
        requests_per_second=values["requests_per_second"],
        p50_ms=values["p50_ms"],
        p99_ms=values["p99_ms"],
        cpu_us=values["cpu_us"],
        errors=int(values.get("errors", 0)),
        foreign_cpus=values.get("foreign_cpus", 0.25),
    )


def make_subject(name: str, role: str, *, problem: str = "") -> Subject:
    return Subject(
        name=name,
        title=name.upper(),
        role=role,
        package=name,
        version="1.0",
        format="CSV",
        workers="2 processes",
        settings="as it comes",
        problem=problem,
    )


@pytest.fixture
def results() -> Results:
    """Of ours, two peers and the floor, started once each; samples are added by the tests."""
    names = {"ours": "ours", "slow": "peer", "fast": "peer", "floor": "floor"}
    return Results(
        began="2026-11-22 03:00 UTC",
        machine={"cpu": "8086", "cpus": 2, "memory_bytes": 640_000, "kernel": "6", "python": "3"},
        options={"seconds": 3, "repetitions": 5},
        subjects=[make_subject(name, role) for name, role in names.items()],
        starts=[Start(name, 1, 0.5, 100_000_000, 3) for name in names],
    )
