"""One connection between two hosts of a job: messages, and signs of life in between.

A message is a JSON object on a line. Both ends send an empty line every few seconds, so that one
that is frozen or cut off is told from one that reads its data for an hour.
"""

import contextlib
import json
import socket
import threading
from typing import Any

Message = dict[str, Any]

SILENCE_SECONDS = 30.0  # after which the other end counts as gone
_BEATS_IN_SILENCE = 6
_BEAT = b"\n"
_MAX_MESSAGE_BYTES = 16 * 2**20


class LostError(Exception):
    """The other end is gone; the text says how that was noticed."""


class Link:
    """One end of a connection. `receive` belongs to one thread, the rest to any.

    Args:
        connection: Connected; closed with the link.
        silence_seconds: How long the other end may give no sign of life.
    """

    def __init__(
        self, connection: socket.socket, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        connection.settimeout(silence_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._silence_seconds = silence_seconds
        self._sending = threading.Lock()
        self._is_closing = threading.Event()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    @property
    def address(self) -> str:
        """The IP address at the other end."""
        return str(self._connection.getpeername()[0])

    def send(self, message: Message) -> None:
        """Send one message; that the other end is gone is for `receive` to find out."""
        self._send(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            LostError: none will come.
        """
        line = _BEAT
        while line == _BEAT:
            line = self._read_line()
        return _decode(line)

    def finish(self) -> None:
        """Send nothing more; the other end can still be read."""
        self._is_closing.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the connection. The thread in `receive` is told that the other end is gone."""
        self._is_closing.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._connection.close()

    def _read_line(self) -> bytes:
        try:
            line = self._lines.readline(_MAX_MESSAGE_BYTES)
        except TimeoutError as error:
            raise LostError(f"no sign of life for {self._silence_seconds:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: closed at this end
            raise LostError(f"its connection broke: {error}") from error
        if not line.endswith(b"\n"):
            raise LostError(
                "its connection ended without a word"
                if len(line) < _MAX_MESSAGE_BYTES
                else f"it sent a message of more than {_MAX_MESSAGE_BYTES} bytes"
            )
        return line

    def _beat(self) -> None:
        while not self._is_closing.wait(self._silence_seconds / _BEATS_IN_SILENCE):
            self._send(_BEAT)

    def _send(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(data)


def _decode(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LostError("it sent what is not JSON") from error
    if not isinstance(message, dict):
        raise LostError("it sent what is not a JSON object")
    return message
