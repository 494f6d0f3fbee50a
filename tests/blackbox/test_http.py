"""HTTP as it really comes: the raw requests of `tests/corpus/http`, and clients that misbehave.

`NAME.http` is sent byte for byte; `NAME.expected` says the status of each answer, and `close` where
the server must close the connection: what follows a refused request cannot be trusted to be one.
An empty one says that the server waits for the rest.
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local_test.backends import Backend
from local_test.datasets import TabularDataset
from local_test.invoke import invoke, ping
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.waiting import PATIENCE_SECONDS

CORPUS = Path(__file__).parents[1] / "corpus" / "http"
CASES = sorted(CORPUS.glob("*.http"))
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def _connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def _read(
    client: socket.socket,
    seconds: float = PATIENCE_SECONDS,
    is_enough: Callable[[bytes], bool] = lambda received: False,
) -> tuple[bytes, bool]:
    """Return the bytes received in time or until enough, and True if the server closed."""
    received = b""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not is_enough(received):
        client.settimeout(left)
        try:
            piece = client.recv(65536)
        except TimeoutError:
            break
        except ConnectionResetError:
            return received, True
        if not piece:
            return received, True
        received += piece
    return received, False


def _statuses(received: bytes) -> list[str]:
    """Those of all answers but `100 Continue`."""
    return [status.decode() for status in STATUS.findall(received) if status != b"100"]


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_raw_request_has_the_expected_answers(
    server: RunningServer, case: Path, cancer: TabularDataset
) -> None:
    """Smuggling forms are refused, odd but legal requests answered (C-047, C-051, C-074)."""
    *statuses, closing = [*case.with_suffix(".expected").read_text().split(), "open"]
    if "close" in statuses:
        closing = statuses.pop()
    before = server.process_ids()

    with _connect(server) as client:
        client.sendall(case.read_bytes())
        if closing == "close":
            received, was_closed = _read(client)
        elif statuses:
            received, _ = _read(client, is_enough=lambda got: len(_statuses(got)) >= len(statuses))
            client.sendall(LAST)  # its answer comes next: neither another one nor the end
            more, was_closed = _read(client)
            received += more
            statuses.append("404")
        else:
            received, was_closed = _read(client, 1)

    assert _statuses(received) == statuses
    assert was_closed == (closing == "close" or bool(statuses))
    assert b"Traceback" not in received
    assert invoke(server.url, cancer.payload).status == 200
    assert server.process_ids() == before


def test_corpus_is_there() -> None:
    """An empty directory would pass."""
    assert len(CASES) > 50


@pytest.mark.canary
def test_parser_errors_have_the_error_body(server: RunningServer) -> None:
    """The one form of all errors, without the request in it."""
    with _connect(server) as client:
        client.sendall(b"GET /secret-path HTTP/1.1\r\nHost : x\r\n\r\n")
        received, _ = _read(client)

    assert b"Content-Type: application/json" in received
    assert b'"code":"invalid_http"' in received
    assert b"secret" not in received


def test_client_that_closes_its_side_gets_its_answer(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """Half-closed after a whole request, as some clients do."""
    with _connect(server) as client:
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(cancer.payload)}\r\n"
        client.sendall(head.encode() + b"Content-Type: text/csv\r\n\r\n" + cancer.payload)
        client.shutdown(socket.SHUT_WR)
        received, was_closed = _read(client)

    assert received.startswith(b"HTTP/1.1 200")
    assert was_closed


def test_uploads_that_are_given_up_hold_nothing_up(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """Nobody waits for the rest of a body whose client has gone, declared or chunked (C-062)."""
    forms = (b"Content-Length: 100\r\n\r\n1,2", b"Transfer-Encoding: chunked\r\n\r\n64\r\n1,2")
    with backend.start_server(trained.ml) as server:
        for form in forms * 5:
            with _connect(server) as client:
                client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + form)
                time.sleep(0.05)  # so that the body is waited for when the connection closes
        assert invoke(server.url, cancer.payload).status == 200

        assert server.stop().duration_seconds < 20


def test_client_that_asks_first_is_refused_at_once(server: RunningServer) -> None:
    """Expect: 100-continue over the limit: no 100, no wait, 413."""
    with _connect(server) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Type: text/csv\r\nContent-Length: 999999999\r\n\r\n"
        )
        received, _ = _read(client, 30)  # it would wait 60 s for the body

    assert received.startswith(b"HTTP/1.1 413")


def test_client_that_sends_too_much_sees_the_answer(server: RunningServer) -> None:
    """110 MB are read and dropped, and the 413 arrives instead of a reset (C-050)."""
    n_bytes = 110 * 2**20
    with _connect(server) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
            b"Content-Length: %d\r\n\r\n" % n_bytes
        )
        piece = b"1," * 2**19
        for _ in range(110):
            client.sendall(piece)
        received, _ = _read(client, is_enough=bool)

    assert received.startswith(b"HTTP/1.1 413")


def test_clients_that_go_away_leave_nothing_behind(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """Clients leave in the head, in the body and before the answer; the next is answered."""
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(cancer.payload)}\r\n"
    whole = head.encode() + b"Content-Type: text/csv\r\n\r\n" + cancer.payload
    for cut in (1, 40, len(head) + 3, len(head) + 500, len(whole)):
        for _ in range(5):
            client = _connect(server)
            client.sendall(whole[:cut])
            client.close()

    assert invoke(server.url, cancer.payload).status == 200


def test_slow_clients_do_not_slow_the_ping(server: RunningServer, cancer: TabularDataset) -> None:
    """300 half-open requests, and everybody else is answered (C-045, C-048)."""
    clients = [_connect(server) for _ in range(300)]
    for index, client in enumerate(clients):
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"y" * (index % 50))
    try:
        assert ping(server.url).status == 200  # within 2 s
        assert invoke(server.url, cancer.payload).status == 200
    finally:
        for client in clients:
            client.close()


def test_slow_reader_of_a_large_answer_does_not_slow_the_others(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """An answer that nobody takes waits in its own connection."""
    line = cancer.payload.splitlines(keepends=True)[0]
    body = line * 50_000
    client = _connect(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    client.sendall(head.encode() + b"Content-Type: text/csv\r\n\r\n" + body)
    time.sleep(0.5)

    assert ping(server.url).status == 200
    assert invoke(server.url, cancer.payload).status == 200
    received, _ = _read(client, is_enough=bool)
    client.close()
    assert received.startswith(b"HTTP/1.1 200")


def test_many_requests_at_once_are_all_answered(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """More transforms at a time than are advertised, each with its own right answer (C-077)."""
    lines = cancer.payload.splitlines(keepends=True)
    whole = invoke(server.url, cancer.payload).text.splitlines()
    wrong: list[str] = []

    def transform(offset: int) -> None:
        for index in range(offset, len(lines), 16):
            answer = invoke(server.url, lines[index]).text.strip()
            if answer != whole[index]:
                wrong.append(f"{index}: {answer}")

    threads = [threading.Thread(target=transform, args=(offset,)) for offset in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
