"""The process that answers while no worker can."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from local_test.invoke import send
from serve.gunicorn.placeholder import StandIn, open_port
from tests.waiting import wait_for


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with open_port(0) as opened:
        yield opened


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/ping", None), ("POST", "/invocations", b"1,2\n" * 100_000), ("HEAD", "/ping", None)],
)
def test_every_request_is_told_to_come_again(
    listener: socket.socket, method: str, path: str, body: bytes | None
) -> None:
    """C-046: 503 with the error body, also to a client that is still sending."""
    with StandIn() as stand_in:
        stand_in.start(listener)
        response = send(_url(listener), method, path, body)

    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert (b'"code":"loading"' in response.body) == (method != "HEAD")


def test_silent_clients_keep_nobody_waiting(listener: socket.socket) -> None:
    """C-046, C-048: connections that ask nothing, and one that asks nonsense."""
    with StandIn() as stand_in:
        stand_in.start(listener)
        silent = [socket.create_connection(listener.getsockname()) for _ in range(50)]
        silent[0].sendall(b"x" * 200_000)
        started = time.monotonic()
        status = send(_url(listener), "GET", "/ping").status
        seconds = time.monotonic() - started
        for client in silent:
            client.close()

    assert status == 503
    assert seconds < 1


def test_dismissed_one_takes_no_connection_and_leaves_nothing(listener: socket.socket) -> None:
    """What waits in the socket's queue is the worker's; no zombie stays."""
    before = sorted(os.listdir("/proc/self/fd"))
    with StandIn() as stand_in:
        stand_in.start(listener)
        assert send(_url(listener), "GET", "/ping").status == 503
        stand_in.dismiss()
        stand_in.dismiss()
        waiting = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()
        waiting.close()

    with pytest.raises(ChildProcessError):
        os.waitpid(stand_in._process_id, os.WNOHANG)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_client_is_answered_to_the_end_by_one_that_was_dismissed(listener: socket.socket) -> None:
    """A connection that it took is its own."""
    with StandIn() as stand_in:
        stand_in.start(listener)
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"GET /ping HTTP/1.1\r\n")
        # Connections are taken in their order: the first one is its own by this answer.
        assert send(_url(listener), "GET", "/ping").status == 503
        dismissal = threading.Thread(target=stand_in.dismiss)
        dismissal.start()
        dismissal.join()
        client.sendall(b"\r\n")
        answer = client.recv(65536)
        client.close()

    assert answer.startswith(b"HTTP/1.1 503 ")


def test_it_ends_with_those_that_it_stands_in_for(listener: socket.socket) -> None:
    """Also when they are killed and cannot dismiss it."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        stand_in = StandIn()
        stand_in.start(listener)
        os.write(writer, b"%d" % stand_in._process_id)
        os.kill(os.getpid(), 9)
    os.waitpid(parent, 0)
    orphan = int(os.read(reader, 16))
    os.close(reader)
    os.close(writer)

    wait_for(lambda: not os.path.exists(f"/proc/{orphan}"))


def test_second_one_may_follow_the_first(listener: socket.socket) -> None:
    """When the last worker has died."""
    process_ids = []
    with StandIn() as stand_in:
        for _ in range(2):
            stand_in.start(listener)
            process_ids.append(stand_in._process_id)
            assert send(_url(listener), "GET", "/ping").status == 503
            stand_in.dismiss()
        os.waitpid(process_ids[0], 0)


def test_port_that_is_taken_is_an_os_error(listener: socket.socket) -> None:
    """PITFALLS 105."""
    with pytest.raises(OSError, match="in use"):
        open_port(listener.getsockname()[1])
