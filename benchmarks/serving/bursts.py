"""Bursts of connections: the rate of good answers, and the waiting time of a ping.

All connections are opened at once, and each sends its request again when it is answered. A refused
client connects again after a second, as `Retry-After` says. Another process pings meanwhile, each
time on a new connection.
"""

import dataclasses
import heapq
import json
import re
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.harness.model_files import Questions
from benchmarks.harness.running import Running
from benchmarks.harness.servers import ROOT
from benchmarks.serving.report import table

CONNECTIONS = (64, 512, 1500)
N_ROWS = 100
_RETRY_SECONDS = 1.0
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
# Prints the seconds that each ping took, until its input ends.
_PINGER = """
import http.client, json, select, sys, time
host, port = sys.argv[1], int(sys.argv[2])
seconds = []
while not select.select([sys.stdin], [], [], 0.02)[0]:
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200
    connection.close()
    seconds.append(time.monotonic() - began)
print(json.dumps(seconds))
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """Result of a burst of connections; `pings` are the seconds that each took."""

    connections: int
    seconds: float
    answers: dict[str, int]  # by status
    cpu_seconds: float
    pings: list[float]


class _Clients:
    """One connection each, in one thread."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = (host, port)
        self._request = request
        self._selector = selectors.DefaultSelector()
        self._received: dict[socket.socket, bytes] = {}
        self._retries: list[float] = []
        self.answers: Counter[str] = Counter()

    def run(self, n_connections: int, seconds: float) -> None:
        for _ in range(n_connections):
            self._connect()
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self._retries and self._retries[0] <= now:
                heapq.heappop(self._retries)
                self._connect()
            for key, _ in self._selector.select(0.05):
                self._read(key.fileobj)  # type: ignore[arg-type]
        for connection in list(self._received):
            self._close(connection)
        self._selector.close()

    def _read(self, connection: socket.socket) -> None:
        piece = connection.recv(65536)
        received = self._received[connection] = self._received[connection] + piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if piece and (length is None or len(body) < int(length[1])):
            return
        status = head[9:12].decode() if piece else "broken"
        self.answers[status] += 1
        if status == "200":
            self._received[connection] = b""
            connection.sendall(self._request)
        else:
            self._close(connection)
            heapq.heappush(self._retries, time.monotonic() + _RETRY_SECONDS)

    def _connect(self) -> None:
        connection = socket.create_connection(self._address, timeout=30)
        self._selector.register(connection, selectors.EVENT_READ)
        self._received[connection] = b""
        connection.sendall(self._request)

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._received[connection]
        connection.close()


def run(server: Running, questions: Questions, n_connections: int, *, seconds: float) -> Burst:
    """Open many connections to the server at once."""
    url = urlsplit(server.url)
    host, port = str(url.hostname), int(url.port or 80)
    format_ = server.server.format
    body = questions.body(format_, N_ROWS)
    head = (
        f"POST {server.server.route} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: {format_.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    clients = _Clients(host, port, head.encode() + body)
    before = server.cpu_seconds()
    command = [sys.executable, "-c", _PINGER, host, str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as pinger:
        clients.run(n_connections, seconds)
        output, _ = pinger.communicate()
    used = server.cpu_seconds() - before
    return Burst(n_connections, seconds, dict(clients.answers), used, json.loads(output))


def write(bursts: list[Burst], directory: Path) -> None:
    """Write bursts.json and bursts.md."""
    content = json.dumps([dataclasses.asdict(burst) for burst in bursts], indent=1) + "\n"
    (directory / "bursts.json").write_text(content)
    (directory / "bursts.md").write_text(render(bursts))


def render(bursts: list[Burst]) -> str:
    """A line for each burst, in Markdown."""
    titles = ["connections", "good/s", "refused/s", "broken", "CPU µs a good one"]
    titles += ["ping p50, ms", "p99", "max"]
    return table(titles, [_line(burst) for burst in bursts]) + "\n"


def _line(burst: Burst) -> list[str]:
    good = burst.answers.get("200", 0)
    pings = [seconds * 1000 for seconds in burst.pings]
    p99 = statistics.quantiles(pings, n=100, method="inclusive")[98] if len(pings) > 1 else pings[0]
    return [
        f"{burst.connections}",
        f"{good / burst.seconds:,.0f}",
        f"{burst.answers.get('503', 0) / burst.seconds:,.0f}",
        f"{sum(burst.answers.values()) - good - burst.answers.get('503', 0)}",
        f"{burst.cpu_seconds / max(good, 1) * 1e6:,.0f}",
        *(f"{ms:,.0f}" for ms in (statistics.median(pings), p99, max(pings))),
    ]
