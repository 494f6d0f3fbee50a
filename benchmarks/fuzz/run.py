"""Sends mutated bodies to a server, and watches its processes, its pings and its memory."""

import contextlib
import http.client
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Protocol
from urllib.parse import urlsplit

from benchmarks.fuzz.bodies import Body
from benchmarks.fuzz.mutations import mutate
from benchmarks.harness.process_tree import PROC, parse_kilobytes

REQUEST_TIMEOUT_SECONDS = 90.0  # the server gives up before that, with 503
# On a machine that is busy with the clients, too; a server that hangs is silent for longer.
PING_TIMEOUT_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_REPORT_SECONDS = 30.0
# Overload, and memory that is short, are answers; the other statuses of the 500s are faults.
ALLOWED_STATUSES = (503, 507)
_LEAST_SECONDS = 300.0  # a shorter run says nothing about growth
_N_WINDOWS = 12
_ALLOWED_BYTES_AN_HOUR = 48e6  # of a hundred bytes a body it would be hundreds
_MAX_SAVED = 200
_OUTPUT_BYTES = 2**24  # what a server has logged is freed then
_TAIL_BYTES = 20_000
_ACCEPTS = ("*/*", "text/csv", "application/json", "application/jsonlines", "application/x-npy")


class Target(Protocol):
    """A running server."""

    @property
    def url(self) -> str: ...

    def processes(self) -> set[int]:
        """Return its living processes."""
        ...

    def output_tail(self, n_bytes: int) -> str:
        """Return the end of the log of the server."""
        ...

    def forget_output(self, *, beyond_bytes: int) -> None:
        """Truncate the log of the server, if it is longer."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of the server; ``body`` is the one that it came with, where that is known."""

    reason: str
    body: Body | None = None


@dataclass(slots=True)
class Results:
    """Counts of sent bodies and the findings of a run; filled by several threads.

    Args:
        directory: Offending bodies are saved there.
    """

    directory: Path
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)  # seconds, RSS in bytes
    slowest_ping_seconds: float = 0.0
    n_decoders: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n_sent(self) -> int:
        return sum(sum(counts.values()) for counts in self.statuses.values())

    def count(self, body: Body, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.statuses.setdefault(body.kind, Counter())[status] += 1

    def add(self, finding: Finding) -> None:
        """Record a fault and save its body, with the headers that send it again."""
        with self._lock:
            self.findings.append(finding)
            number = len(self.findings)
        print(f"fuzz: FOUND {number}: {finding.reason}", flush=True)
        if finding.body is None or number > _MAX_SAVED:
            return
        stem = self.directory / f"{number:03d}-{finding.body.kind.replace('+', '-')}"
        stem.with_suffix(".body").write_bytes(finding.body.data)
        facts = {
            "reason": finding.reason,
            "headers": {"Content-Type": finding.body.content_type, **finding.body.headers},
        }
        stem.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")

    def growth(self, seconds: float) -> tuple[float, bool]:
        """Return the growth of the server in bytes an hour, and True if it is too much.

        After the first quarter, in which pools and caches fill, the time is cut into windows. The
        median of the steps from one window's median to the next is what the server grows by as a
        rule: allocators keep what one large answer took, which is a step and no leak.
        """
        start, length = seconds / 4, seconds * 3 / 4 / _N_WINDOWS
        windows: list[list[int]] = [[] for _ in range(_N_WINDOWS)]
        for at, rss in self.memory:
            if at >= start:
                windows[min(_N_WINDOWS - 1, int((at - start) / length))].append(rss)
        levels = [statistics.median(window) for window in windows if window]
        if len(levels) < _N_WINDOWS:
            return 0.0, False
        steps = [after - before for before, after in pairwise(levels)]
        an_hour = statistics.median(steps) * 3600 / length
        return an_hour, seconds >= _LEAST_SECONDS and an_hour > _ALLOWED_BYTES_AN_HOUR


def run(
    target: Target,
    bodies: Sequence[Body],
    directory: Path,
    *,
    workers: set[int],
    seconds: float,
    seed: int,
    n_clients: int,
) -> Results:
    """Fuzz until the time is over or a worker has died.

    Args:
        bodies: Valid ones of every kind.
        directory: Where offending bodies are saved; it exists.
        workers: The processes that must not end: the server and its workers.
        seed: The bodies are the same for the same one, but not which of them are in hand at once.
    """
    results = Results(directory)
    over = threading.Event()
    began = time.monotonic()
    randoms = [Random(f"{seed} {index}") for index in range(n_clients)]  # noqa: S311
    clients = [Client(target.url, bodies, results, random) for random in randoms]
    threads = [
        threading.Thread(target=_watch_pings, args=[target.url, results, over]),
        *(threading.Thread(target=client.run, args=[over]) for client in clients),
    ]
    for thread in threads:
        thread.start()
    try:
        _watch_processes(target, results, workers, began, seconds)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    an_hour, is_too_much = results.growth(seconds)
    if is_too_much:
        results.add(Finding(f"memory grows by {an_hour / 1e6:.1f} MB an hour"))
    return results


class Client:
    """Sends one mutated body after the other, on a connection that is kept."""

    def __init__(self, url: str, bodies: Sequence[Body], results: Results, random: Random) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=REQUEST_TIMEOUT_SECONDS
        )
        self._bodies = bodies
        self._by_kind: dict[str, list[Body]] = {}
        for body in bodies:
            self._by_kind.setdefault(body.kind, []).append(body)
        self._results = results
        self._random = random

    def run(self, over: threading.Event) -> None:
        """Go on until it is over."""
        try:
            while not over.is_set():
                kind = self._random.choice([*self._by_kind])
                body = mutate(self._random.choice(self._by_kind[kind]), self._bodies, self._random)
                self.send(body, is_over=over.is_set)
        except Exception as error:  # noqa: BLE001 - a run with fewer clients is no such run
            self._results.add(Finding(f"a client of the fuzzer failed: {error!r}"))
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection that is kept."""
        self._connection.close()

    def send(self, body: Body, *, is_over: Callable[[], bool] = lambda: False) -> None:
        """Send a body, on a new connection where the kept one was closed; judge the answer."""
        accept = self._random.choice(_ACCEPTS)
        for is_last in (False, True):
            try:
                status = self._ask(body, accept)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if is_last and not is_over():
                    reason = f"no answer to {body.kind}: {type(error).__name__}: {error}"
                    self._results.add(Finding(reason, body))
            else:
                self._results.count(body, status)
                if status >= 500 and status not in ALLOWED_STATUSES:
                    self._results.add(Finding(f"status {status} for {body.kind}", body))
                return

    def _ask(self, body: Body, accept: str) -> int:
        headers = {"Content-Type": body.content_type, "Accept": accept, **body.headers}
        self._connection.request("POST", "/invocations", body.data, headers)
        response = self._connection.getresponse()
        response.read()
        return response.status


def _watch_pings(url: str, results: Results, over: threading.Event) -> None:
    address = urlsplit(url)
    while not over.wait(_LOOK_SECONDS / 4):
        connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=PING_TIMEOUT_SECONDS
        )
        began = time.monotonic()
        try:
            connection.request("GET", "/ping")
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException) as error:
            results.add(Finding(f"/ping has no answer: {type(error).__name__}: {error}"))
            continue
        finally:
            connection.close()
        if status != 200:
            results.add(Finding(f"/ping is {status}"))
        results.slowest_ping_seconds = max(results.slowest_ping_seconds, time.monotonic() - began)


def _watch_processes(
    target: Target, results: Results, workers: set[int], began: float, seconds: float
) -> None:
    """Look once a second; return when the time is over or a worker is gone."""
    decoders: set[int] = set()
    next_report = _REPORT_SECONDS
    while (now := time.monotonic() - began) < seconds:
        time.sleep(min(_LOOK_SECONDS, seconds - now))
        living = target.processes()
        decoders |= living - workers
        results.n_decoders = len(decoders)
        if dead := workers - living:
            (results.directory / "output.log").write_text(target.output_tail(_TAIL_BYTES))
            results.add(Finding(f"worker processes died: {sorted(dead)}; see output.log"))
            return
        target.forget_output(beyond_bytes=_OUTPUT_BYTES)
        results.memory.append((time.monotonic() - began, resident_bytes(workers)))
        if now >= next_report:
            next_report += _REPORT_SECONDS
            print(
                f"fuzz: {now:5.0f} s: {results.n_sent:,} bodies, {len(results.findings)} findings,"
                f" RSS {results.memory[-1][1] / 1e6:.1f} MB,"
                f" slowest ping {results.slowest_ping_seconds:.2f} s",
                flush=True,
            )


def resident_bytes(processes: set[int]) -> int:
    """Return the resident memory of all these processes together."""
    total = 0
    for pid in processes:
        with contextlib.suppress(OSError):  # ended since the listing
            total += parse_kilobytes((PROC / str(pid) / "smaps_rollup").read_text())["Rss"]
    return total
