"""Access log and metrics: one log line for each invocation, and its counts."""

import asyncio
import logging
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from container import logs
from container.errors import ContainerError, OutOfMemoryError, OverloadedError
from serve.http.request_metrics import Metrics
from serve.http.responses import Reply

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Observation:
    """Facts of one invocation for its log line and its metrics, collected while it is answered."""

    request_id: str
    content_type: str
    status: int = 0
    n_bytes: int = 0
    n_rows: int = 0
    queue_seconds: float = 0.0
    stages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    error: Exception | None = None
    facts: dict[str, object] | None = None  # further fields of the log line
    measurements: "tuple[Measurement, ...]" = ()  # further metrics
    started: float = field(default_factory=time.perf_counter)

    def replied(self, reply: Reply) -> Reply:
        """Record the reply, and return it."""
        self.status = reply.status
        return reply

    def failed(self, error: Exception, reply: Reply) -> Reply:
        """Record the reply and the error that caused it, and return the reply."""
        self.error = error
        return self.replied(reply)


class Observer:
    """Access log and metrics of the invocations of one worker."""

    def __init__(self, metrics: Metrics | None, *, emf_namespace: str | None = None) -> None:
        """Args:
        metrics: The counters of the server; None to count nothing.
        emf_namespace: CloudWatch namespace. If set, each line is also in CloudWatch's Embedded
            Metric Format.
        """
        self._metrics = metrics
        self._emf_namespace = emf_namespace
        self._lines = b""

    def record(self, seen: Observation) -> None:
        """Count and log an invocation; a 5xx of the container or the model has its traceback."""
        seconds = time.perf_counter() - seen.started
        if self._metrics is not None:
            self._metrics.count(seen.status, seconds, seen.n_rows)
        decode, predict, encode = seen.stages
        facts: dict[str, object] = {
            "request_id": seen.request_id,
            "status": seen.status,
            "content_type": seen.content_type,
            "n_bytes": seen.n_bytes,
            "n_rows": seen.n_rows,
            "duration_ms": _milliseconds(seconds),
            "queue_ms": _milliseconds(seen.queue_seconds),
            "decode_ms": _milliseconds(decode),
            "predict_ms": _milliseconds(predict),
            "encode_ms": _milliseconds(encode),
        }
        if seen.facts is not None:
            facts |= seen.facts
        if self._emf_namespace is not None:
            measurements = (*_measurements(seen, seconds), *seen.measurements)
            facts |= embedded_metrics(self._emf_namespace, measurements)
        if seen.error is None:
            self._log(facts)
            return
        if isinstance(seen.error, ContainerError):
            facts |= {"code": seen.error.code, "reason": seen.error.message}
        if seen.status < 500 or isinstance(seen.error, OverloadedError | OutOfMemoryError):
            self._log(facts)
        else:
            self.flush()
            logger.error("invocation", extra=facts, exc_info=seen.error)
        # The traceback holds frames, and they hold the body and `seen`: a reference cycle of up to
        # 100 MB, which only the garbage collector would free.
        seen.error = None

    def flush(self) -> None:
        """Write the lines that are still buffered."""
        if self._lines:
            logs.write_lines(self._lines)
            self._lines = b""

    def _log(self, facts: dict[str, object]) -> None:
        """Buffer a line until the end of the event loop iteration: a write costs as much as a line.

        A write has at most `PIPE_BUF` bytes. A pipe takes so many in one piece; the parts of larger
        writes of several workers would mix.
        """
        line = logs.line(logger, "invocation", facts)
        if self._lines and len(self._lines) + len(line) <= select.PIPE_BUF:
            self._lines += line
            return
        self.flush()
        self._lines = line
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # there is no event loop
            self.flush()


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


class Measurement(NamedTuple):
    """A value of a CloudWatch metric, with CloudWatch's name and unit for it."""

    name: str
    unit: str
    value: float


def embedded_metrics(namespace: str, measurements: Iterable[Measurement]) -> dict[str, object]:
    """The fields that make a log line a CloudWatch metric: a declaration, and the values.

    Source: CloudWatch user guide, "Specification: Embedded metric format".
    """
    metrics = []
    values: dict[str, object] = {}
    for name, unit, value in measurements:
        metrics.append({"Name": name, "Unit": unit})
        values[name] = value
    declaration = {"Namespace": namespace, "Dimensions": [[]], "Metrics": metrics}
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [declaration]}
    return {"_aws": about, **values}


def _measurements(seen: Observation, seconds: float) -> tuple[Measurement, ...]:
    """The endpoint metrics of CloudWatch that an invocation counts for."""
    return (
        Measurement("Invocations", "Count", 1),
        Measurement("Invocation4XXErrors", "Count", int(400 <= seen.status < 500)),
        Measurement("Invocation5XXErrors", "Count", int(seen.status >= 500)),
        Measurement("ModelLatency", "Microseconds", round(seconds * 1_000_000)),
    )
