"""Figures of a server from one load on it."""

import pytest

from benchmarks.harness.load import Errors, Load
from benchmarks.serving.measuring import sample_of
from benchmarks.serving.results import Point, Sample


def sample(*, requests: int, errors: Errors) -> Sample:
    """Of two seconds in which the server used one."""
    result = Load(requests, 2.0, p50_ms=1.0, p99_ms=2.0, errors=errors, cpu_seconds=0.5)
    point = Point(n_rows=1, connections=8)
    return sample_of(
        result, server="ours", repetition=1, point=point, cpu_seconds=1.0, foreign_cpus=0.0
    )


def test_only_good_answers_are_requests() -> None:
    """A quarter of 4,000 were refused at once: 3,000 in 2 s, each of a third of a millisecond."""
    found = sample(requests=4000, errors=Errors(0, 0, 0, timeout=0, status=1000))

    assert (found.requests, found.errors) == (3000, 1000)
    assert found.requests_per_second == 1500
    assert found.cpu_us == pytest.approx(1e6 / 3000)


def test_connections_that_broke_are_errors_beside_the_answers() -> None:
    """wrk does not count them as requests."""
    found = sample(requests=4000, errors=Errors(connect=1, read=2, write=3, timeout=0, status=0))

    assert (found.requests, found.errors) == (4000, 6)


def test_a_server_that_refuses_everything_is_not_a_fast_one() -> None:
    """No rate, and all its CPU time for nothing."""
    found = sample(requests=4000, errors=Errors(0, 0, 0, timeout=0, status=4000))

    assert (found.requests, found.requests_per_second) == (0, 0)
    assert found.cpu_us == 1e6
