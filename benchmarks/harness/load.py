"""Load from ``wrk``: runs it against a server and reads its figures."""

import json
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")
REQUEST_TIMEOUT_SECONDS = 10
_EXIT_SECONDS = 30.0  # beyond the time of the load, for wrk to end
_LOOK_SECONDS = 1.0


class LoadError(Exception):
    """wrk could not measure."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Requests that brought no good answer: broken connections, late and refused ones."""

    connect: int
    read: int
    write: int
    timeout: int
    status: int

    @property
    def total(self) -> int:
        return self.connect + self.read + self.write + self.timeout + self.status


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk.

    Args:
        requests: Answered ones, whatever their status; latencies are of these.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Errors
    cpu_seconds: float

    @property
    def good_answers(self) -> int:
        """Number of answers neither refused nor late; wrk 4 counts one that was both twice."""
        return max(self.requests - self.errors.status - self.errors.timeout, 0)

    @property
    def requests_per_second(self) -> float:
        """Good answers only: a refusal costs a server next to nothing."""
        return self.good_answers / self.seconds


def run(
    url: str,
    content_type: str,
    bodies: Sequence[Path],
    *,
    connections: int,
    seconds: int,
    look: Callable[[], None] | None = None,
) -> Load:
    """Send the bodies in turn on several connections, each as fast as it is answered.

    Args:
        look: Called about once a second meanwhile.
    Raises:
        LoadError: wrk failed, or did not end in time and was killed.
    """
    command = [
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        f"--timeout={REQUEST_TIMEOUT_SECONDS}s",
        f"--script={SCRIPT}",
        url,
        "--",
        content_type,
        *map(str, bodies),
    ]
    before = _children_cpu_seconds()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as wrk:
        try:
            output = _output(wrk, seconds + _EXIT_SECONDS, look)
        finally:
            wrk.kill()  # does nothing when it has ended
    if wrk.returncode != 0:
        raise LoadError(f"wrk failed: {output.strip()[-500:]}")
    return parse(output, _children_cpu_seconds() - before)


def _output(
    wrk: "subprocess.Popen[str]", timeout_seconds: float, look: Callable[[], None] | None
) -> str:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            return wrk.communicate(timeout=_LOOK_SECONDS if look else timeout_seconds)[0]
        except subprocess.TimeoutExpired:
            if look:
                look()
    raise LoadError(f"wrk did not end within {timeout_seconds:g} s")


def parse(output: str, cpu_seconds: float) -> Load:
    """Read the line that ``post.lua`` writes at the end.

    Raises:
        LoadError: there is no such line.
    """
    line = output.strip().rpartition("\n")[2]
    try:
        figures = json.loads(line)
    except ValueError as error:
        raise LoadError(f"wrk printed no figures but {line[:200]!r}") from error
    return Load(
        requests=figures["requests"],
        seconds=figures["duration_us"] / 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        errors=Errors(
            **{name: figures[name] for name in ("connect", "read", "write", "timeout", "status")}
        ),
        cpu_seconds=cpu_seconds,
    )


def _children_cpu_seconds() -> float:
    """CPU time of children that have ended: during a load, of wrk alone."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
