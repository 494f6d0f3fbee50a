"""One connection between two hosts, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from train.distributed.connection import Connection, LostError


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection that gives the other end half a second, and that other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    connection = Connection(sock, silence_seconds=0.5)
    with other:
        yield connection, other
        connection.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Connection, socket.socket]) -> None:
    """The network may split them anywhere."""
    connection, other = ends

    sent = b'{"n": 1}\n{"n": 2, "text": "\\n\xc3\xa9"}\n'
    for position in range(len(sent)):
        other.sendall(sent[position : position + 1])

    assert [connection.receive(), connection.receive()] == [{"n": 1}, {"n": 2, "text": "\né"}]


def test_own_messages_are_lines_of_json(ends: tuple[Connection, socket.socket]) -> None:
    """Sends heartbeats between messages."""
    connection, other = ends

    connection.send({"text": "a\nb", "number": float("inf")})

    with other.makefile("rb") as lines:
        assert json.loads(lines.readline()) == {"text": "a\nb", "number": float("inf")}
        assert lines.readline() == b"\n"


def test_receive_waits_as_long_as_heartbeats_come() -> None:
    """Waits while heartbeats come: a host that reads its data sends no messages for an hour."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        busy = Connection(socket.create_connection(listener.getsockname()), silence_seconds=0.3)
        connection = Connection(listener.accept()[0], silence_seconds=0.3)
    threading.Timer(1.0, busy.send, [{"after": "a while"}]).start()

    assert connection.receive() == {"after": "a while"}
    connection.close()
    busy.close()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "no heartbeat for 0.5 s"),
        (b'{"half": ', "no heartbeat for 0.5 s"),
        (b"not JSON\n", "it sent a line that is not JSON"),
        (b"[" * 100_000 + b"\n", "it sent a line that is not JSON"),
        (b"[1]\n", "it sent JSON that is not an object"),
    ],
)
def test_silent_or_malformed_end_is_lost(
    ends: tuple[Connection, socket.socket], sent: bytes, reason: str
) -> None:
    """A frozen host and a stranger end the wait alike."""
    connection, other = ends
    other.sendall(sent)

    with pytest.raises(LostError, match=reason):
        connection.receive()


@pytest.mark.parametrize("sent", [b"", b'{"half": '])
def test_end_of_the_other_process_is_noticed_at_once(
    ends: tuple[Connection, socket.socket], sent: bytes
) -> None:
    """The kernel closes the connections of a process that was killed."""
    connection, other = ends
    other.sendall(sent)
    other.close()

    with pytest.raises(LostError, match="it closed its connection without a farewell"):
        connection.receive()


def test_endless_message_is_refused(
    ends: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger cannot fill the memory."""
    monkeypatch.setattr("train.distributed.connection._MAX_MESSAGE_BYTES", 1000)
    connection, other = ends
    other.sendall(b"x" * 2000)

    with pytest.raises(LostError, match="more than 1000 bytes"):
        connection.receive()


def test_finished_connection_can_still_receive(ends: tuple[Connection, socket.socket]) -> None:
    """One end says goodbye, the other one may have something to add; nothing is sent any more."""
    connection, other = ends
    connection.finish()
    other.sendall(b'{"last": "word"}\n')

    assert connection.receive() == {"last": "word"}
    assert other.recv(100) == b""
    connection.send({"too": "late"})
