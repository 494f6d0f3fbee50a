"""One connection between two hosts, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from train.distributed.connection import Link, LostError


@pytest.fixture
def ends() -> Iterator[tuple[Link, socket.socket]]:
    """A link that gives the other end half a second, and that other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        connection, _ = listener.accept()
    link = Link(connection, silence_seconds=0.5)
    with other:
        yield link, other
        link.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Link, socket.socket]) -> None:
    """Whatever pieces the network makes of them."""
    link, other = ends

    sent = b'{"n": 1}\n{"n": 2, "text": "\\n\xc3\xa9"}\n'
    for position in range(len(sent)):
        other.sendall(sent[position : position + 1])

    assert [link.receive(), link.receive()] == [{"n": 1}, {"n": 2, "text": "\né"}]


def test_own_messages_are_lines_of_json(ends: tuple[Link, socket.socket]) -> None:
    """Signs of life come in between."""
    link, other = ends

    link.send({"text": "a\nb", "number": float("inf")})

    with other.makefile("rb") as lines:
        assert json.loads(lines.readline()) == {"text": "a\nb", "number": float("inf")}
        assert lines.readline() == b"\n"


def test_signs_of_life_are_waited_for_as_long_as_they_come() -> None:
    """PITFALLS 118: a host that reads its data for an hour has nothing to say, but is alive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        busy = Link(socket.create_connection(listener.getsockname()), silence_seconds=0.3)
        link = Link(listener.accept()[0], silence_seconds=0.3)
    threading.Timer(1.0, busy.send, [{"after": "a while"}]).start()

    assert link.receive() == {"after": "a while"}
    link.close()
    busy.close()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "no sign of life for 0.5 s"),
        (b'{"half": ', "no sign of life for 0.5 s"),
        (b"not JSON\n", "it sent what is not JSON"),
        (b"[" * 100_000 + b"\n", "it sent what is not JSON"),
        (b"[1]\n", "it sent what is not a JSON object"),
    ],
)
def test_whoever_says_nothing_sensible_is_lost(
    ends: tuple[Link, socket.socket], sent: bytes, reason: str
) -> None:
    """A frozen host and a stranger end the wait alike."""
    link, other = ends
    other.sendall(sent)

    with pytest.raises(LostError, match=reason):
        link.receive()


@pytest.mark.parametrize("sent", [b"", b'{"half": '])
def test_end_of_the_other_process_is_noticed_at_once(
    ends: tuple[Link, socket.socket], sent: bytes
) -> None:
    """The kernel closes the connections of a process that was killed."""
    link, other = ends
    other.sendall(sent)
    other.close()

    with pytest.raises(LostError, match="its connection ended without a word"):
        link.receive()


def test_endless_message_is_refused(
    ends: tuple[Link, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is not for strangers to fill."""
    monkeypatch.setattr("train.distributed.connection._MAX_MESSAGE_BYTES", 1000)
    link, other = ends
    other.sendall(b"x" * 2000)

    with pytest.raises(LostError, match="more than 1000 bytes"):
        link.receive()


def test_finished_link_can_still_receive(ends: tuple[Link, socket.socket]) -> None:
    """One end says goodbye, the other one may have something to add; nothing is sent any more."""
    link, other = ends
    link.finish()
    other.sendall(b'{"last": "word"}\n')

    assert link.receive() == {"last": "word"}
    assert other.recv(100) == b""
    link.send({"too": "late"})
