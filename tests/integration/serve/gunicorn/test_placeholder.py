"""The placeholder process, which answers 503 while no worker is ready."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from local_test.invoke import send
from serve.gunicorn.placeholder import Placeholder, open_port
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
    """Answers 503 with the error body, also to a client that is still sending (C-046)."""
    with Placeholder() as placeholder:
        placeholder.start(listener)
        response = send(_url(listener), method, path, body)

    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert (b'"code":"loading"' in response.body) == (method != "HEAD")


def test_silent_clients_keep_nobody_waiting(listener: socket.socket) -> None:
    """Silent connections and one with invalid HTTP delay no other client (C-046, C-048)."""
    with Placeholder() as placeholder:
        placeholder.start(listener)
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
    """Connections in the backlog are left to the worker; no zombie process stays."""
    before = sorted(os.listdir("/proc/self/fd"))
    with Placeholder() as placeholder:
        placeholder.start(listener)
        assert send(_url(listener), "GET", "/ping").status == 503
        placeholder.dismiss()
        placeholder.dismiss()
        waiting = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()
        waiting.close()

    with pytest.raises(ChildProcessError):
        os.waitpid(placeholder._process_id, os.WNOHANG)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_client_is_answered_to_the_end_by_one_that_was_dismissed(listener: socket.socket) -> None:
    """A connection accepted before the dismissal gets its complete answer."""
    with Placeholder() as placeholder:
        placeholder.start(listener)
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"GET /ping HTTP/1.1\r\n")
        # Connections are taken in their order: the first one is its own by this answer.
        assert send(_url(listener), "GET", "/ping").status == 503
        dismissal = threading.Thread(target=placeholder.dismiss)
        dismissal.start()
        dismissal.join()
        client.sendall(b"\r\n")
        answer = client.recv(65536)
        client.close()

    assert answer.startswith(b"HTTP/1.1 503 ")


def test_placeholder_exits_with_its_server(listener: socket.socket) -> None:
    """A server that is killed leaves no placeholder behind."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        placeholder = Placeholder()
        placeholder.start(listener)
        os.write(writer, b"%d" % placeholder._process_id)
        os.kill(os.getpid(), 9)
    os.waitpid(parent, 0)
    orphan = int(os.read(reader, 16))
    os.close(reader)
    os.close(writer)

    wait_for(lambda: not os.path.exists(f"/proc/{orphan}"))


def test_second_one_may_follow_the_first(listener: socket.socket) -> None:
    """Started again when the last worker has exited."""
    process_ids = []
    with Placeholder() as placeholder:
        for _ in range(2):
            placeholder.start(listener)
            process_ids.append(placeholder._process_id)
            assert send(_url(listener), "GET", "/ping").status == 503
            placeholder.dismiss()
        os.waitpid(process_ids[0], 0)


def test_port_that_is_taken_is_an_os_error(listener: socket.socket) -> None:
    """The error names the reason, and becomes the message of a failed start."""
    with pytest.raises(OSError, match="in use"):
        open_port(listener.getsockname()[1])
