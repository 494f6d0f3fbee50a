"""Counters for `GET /metrics`, in Prometheus's text form, right with any number of workers.

Each process counts into files of its own below a directory that all share, and whoever answers
`/metrics` adds them up. prometheus_client decides when it is imported whether it works like that,
so it is imported here, after the directory is known.
"""

import os
import shutil
import tempfile

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Metrics:
    """The metrics of this server; made once, before the workers are forked."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="byoa-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._directory  # the library's only way
        import prometheus_client
        from prometheus_client import multiprocess

        self._client = prometheus_client
        self._multiprocess = multiprocess
        self._invocations = prometheus_client.Counter(
            "byoa_invocations_total", "Invocations by HTTP status.", ["status"], registry=None
        )
        self._latency = prometheus_client.Histogram(
            "byoa_invocation_seconds",
            "Seconds from the first byte of a request's headers to its answer.",
            buckets=_LATENCY_SECONDS,
            registry=None,
        )
        self._rows = prometheus_client.Counter(
            "byoa_records_total", "Records predicted.", registry=None
        )

    def count(self, status: int, seconds: float, n_rows: int) -> None:
        """Count one invocation."""
        self._invocations.labels(status).inc()
        self._latency.observe(seconds)
        if n_rows:
            self._rows.inc(n_rows)

    def text(self) -> bytes:
        """The metrics of all processes, dead ones included."""
        registry = self._client.CollectorRegistry()
        self._multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return self._client.generate_latest(registry)

    def forget_process(self, process_id: int) -> None:
        """Drop what only a living process can say; its counts stay."""
        self._multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove the files; called once, by the process that made them."""
        shutil.rmtree(self._directory, ignore_errors=True)
