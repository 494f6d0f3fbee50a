"""Faults of a server are found, and the bodies that came with them saved."""

import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.fuzz import run
from benchmarks.fuzz.__main__ import main, render
from benchmarks.fuzz.bodies import Body
from benchmarks.fuzz.run import Results

BODY = Body("csv", "text/csv", b"1,2,3\n")
GZIPPED = Body(
    "csv+gzip", "text/csv", gzip.compress(b"1,2,3\n", mtime=0), {"Content-Encoding": "gzip"}
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as its server says."""

    protocol_version = "HTTP/1.1"
    server: "FakeServer"

    def do_GET(self) -> None:
        self._answer(self.server.ping_status)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers.append(dict(self.headers))
        if self.server.status:
            self._answer(self.server.status)
        else:
            self.close_connection = True  # as when the worker has died

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


class FakeServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    status = 200
    ping_status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []


@dataclass
class Target:
    """Processes are as the test says."""

    server: FakeServer
    looks: list[set[int]] = field(default_factory=list)
    n_forgotten: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def processes(self) -> set[int]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def output_tail(self, n_bytes: int) -> str:
        return "its last words"[:n_bytes]

    def forget_output(self, *, beyond_bytes: int) -> None:
        self.n_forgotten += beyond_bytes > 0


@pytest.fixture
def target() -> Iterator[Target]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Target(server, [{1, 2}])
        server.shutdown()
        thread.join()


def fuzz(target: Target, directory: Path, *, seconds: float = 1.5) -> Results:
    return run.run(
        target, [BODY, GZIPPED], directory, workers={1, 2}, seconds=seconds, seed=1, n_clients=2
    )


def send(target: Target, results: Results, body: Body) -> None:
    client = run.Client(target.url, [BODY], results, Random(1))  # noqa: S311
    client.send(body)
    client.close()


def test_server_that_refuses_is_without_fault(target: Target, tmp_path: Path) -> None:
    """400 is what mutated bodies should get; decoders may come and go."""
    target.server.status = 400
    target.looks = [{1, 2, 3}, {1, 2, 4}, {1, 2}]

    results = fuzz(target, tmp_path, seconds=3.5)

    assert results.findings == []
    assert results.n_sent > 10
    assert {status for counts in results.statuses.values() for status in counts} == {400}
    assert set(results.statuses) == {"csv", "csv+gzip"}
    assert results.n_decoders == 2
    assert results.memory
    assert target.n_forgotten
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "is_fault"), [(200, False), (503, False), (507, False), (500, True)]
)
def test_fault_of_the_server_is_found_with_its_body(
    target: Target, tmp_path: Path, status: int, is_fault: bool
) -> None:
    """Overload and want of memory are answers."""
    target.server.status = status
    results = Results(tmp_path)

    send(target, results, GZIPPED)

    assert results.statuses["csv+gzip"][status] == 1
    assert bool(results.findings) == is_fault
    if is_fault:
        assert (tmp_path / "001-csv-gzip.body").read_bytes() == GZIPPED.data
        facts = json.loads((tmp_path / "001-csv-gzip.json").read_text())
        assert facts == {
            "reason": "status 500 for csv+gzip",
            "headers": {"Content-Type": "text/csv", "Content-Encoding": "gzip"},
        }
    assert target.server.headers[0]["Content-Encoding"] == "gzip"


def test_body_without_an_answer_is_a_fault(target: Target, tmp_path: Path) -> None:
    """Sent twice, since a kept connection may have been closed for its age."""
    target.server.status = 0
    results = Results(tmp_path)

    send(target, results, BODY)

    assert len(target.server.headers) == 2
    (finding,) = results.findings
    assert finding.reason.startswith("no answer to csv: RemoteDisconnected")
    assert (tmp_path / "001-csv.body").read_bytes() == BODY.data


def test_worker_that_dies_ends_the_run(target: Target, tmp_path: Path) -> None:
    """With the end of the server's log, long before the time is over."""
    target.looks = [{1, 2}, {1, 9}]

    results = fuzz(target, tmp_path, seconds=600)

    assert "worker processes died: [2]; see output.log" in [f.reason for f in results.findings]
    assert (tmp_path / "output.log").read_text() == "its last words"


def test_client_that_fails_is_a_fault(target: Target, tmp_path: Path) -> None:
    """Else the rest of the run would be without it, and nobody would know."""
    no_gzip = Body("csv+gzip", "text/csv", b"x", {"Content-Encoding": "gzip"})
    with ThreadPoolExecutor() as threads:
        results = Results(tmp_path)
        client = run.Client(target.url, [no_gzip], results, Random(1))  # noqa: S311
        threads.submit(client.run, threading.Event()).result()

    assert results.findings[-1].reason.startswith("a client of the fuzzer failed: ")


def test_ping_that_fails_is_a_fault(target: Target, tmp_path: Path) -> None:
    """503 means that the endpoint is taken out of service."""
    target.server.ping_status = 503

    results = fuzz(target, tmp_path)

    assert results.findings[0].reason == "/ping is 503"


def memory_of(rss: Callable[[float], float], *, seconds: float) -> Results:
    results = Results(Path())
    results.memory = [(at, int(rss(at))) for at in np.linspace(0, seconds, 500)]
    return results


def test_steady_growth_is_a_fault() -> None:
    """60 MB an hour are too much, 40 are not, and a minute says nothing."""
    for an_hour, seconds, is_too_much in (
        (60e6, 3600, True),
        (40e6, 3600, False),
        (1e9, 60, False),
    ):
        results = memory_of(lambda at, rate=an_hour: 1e8 + rate * at / 3600, seconds=seconds)

        assert results.growth(seconds) == (pytest.approx(an_hour, rel=0.05), is_too_much)


def test_what_one_large_answer_leaves_is_no_growth() -> None:
    """Two steps of 40 MB, and pools that fill at first: flat as a rule."""

    def rss(at: float) -> float:
        return 50e6 + 100e6 * min(1, at / 600) + 40e6 * (at > 1500) + 40e6 * (at > 3000)

    assert memory_of(rss, seconds=3600).growth(3600) == (0.0, False)


def test_report_counts_by_kind_and_status(tmp_path: Path) -> None:
    """And lists what was found."""
    results = Results(tmp_path)
    for status in (200, 400, 400):
        results.count(BODY, status)
    results.count(GZIPPED, 503)
    results.add(run.Finding("status 500 for csv"))

    text = render(results, seconds=120, seed=7)

    assert "| 4 bodies in 2 min, seed 7 | sent | 200 | 400 | 503 |" in text
    assert "| csv | 3 | 1 | 2 | 0 |" in text
    assert "| csv+gzip | 1 | 0 | 0 | 1 |" in text
    assert "- status 500 for csv\n" in text


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--minutes", "inf"], ["--seed", "x"]])
def test_arguments_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
