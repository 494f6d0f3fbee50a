"""Measurement of a server at a point: rows in a request, connections."""

import time
from collections.abc import Iterator, Sequence

from benchmarks.harness import load, machine
from benchmarks.harness.load import Load
from benchmarks.harness.model_files import Questions
from benchmarks.harness.running import Running
from benchmarks.serving.results import Point, Sample

_WARM_UP_SECONDS = 1


def warm_up(server: Running, questions: Questions) -> None:
    """Let pools, caches and compilers of the server settle."""
    n_rows = questions.row_counts[len(questions.row_counts) // 2]
    _load(server, questions, Point(n_rows, 8), _WARM_UP_SECONDS)
    server.wait_until_quiet()


def measure(
    server: Running, questions: Questions, points: Sequence[Point], *, repetition: int, seconds: int
) -> Iterator[Sample]:
    """Load the server at each point in turn."""
    for point in points:
        machine_before = machine.busy_seconds()
        cpu_before = server.cpu_seconds()
        own_before, began = time.process_time(), time.monotonic()
        result = _load(server, questions, point, seconds)
        cpu_seconds = server.cpu_seconds() - cpu_before
        ours = cpu_seconds + result.cpu_seconds + time.process_time() - own_before
        foreign = machine.busy_seconds() - machine_before - ours
        yield sample_of(
            result,
            server=server.server.name,
            repetition=repetition,
            point=point,
            cpu_seconds=cpu_seconds,
            foreign_cpus=max(foreign, 0.0) / (time.monotonic() - began),
        )
        server.wait_until_quiet()


def sample_of(
    result: Load,
    *,
    server: str,
    repetition: int,
    point: Point,
    cpu_seconds: float,
    foreign_cpus: float,
) -> Sample:
    """Turn a load into a measurement, in which only good answers count as requests.

    Args:
        cpu_seconds: CPU time of the server meanwhile, for all answers.
    """
    return Sample(
        server=server,
        repetition=repetition,
        n_rows=point.n_rows,
        connections=point.connections,
        requests=result.good_answers,
        requests_per_second=result.requests_per_second,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        cpu_us=cpu_seconds / max(result.good_answers, 1) * 1e6,
        errors=result.errors.total,
        foreign_cpus=foreign_cpus,
    )


def _load(server: Running, questions: Questions, point: Point, seconds: int) -> Load:
    format_ = server.server.format
    return load.run(
        server.url + server.server.route,
        format_.content_type,
        [questions.body_file(format_, point.n_rows)],
        connections=point.connections,
        seconds=seconds,
    )
