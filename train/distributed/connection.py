"""Connection between two hosts of a job: JSON messages and heartbeats.

A message is a JSON object on one line. A heartbeat is an empty line. Both ends send heartbeats, so
that a host that is frozen or cut off differs from a host that reads its data for an hour.
"""

import contextlib
import json
import socket
import threading
from typing import Any

Message = dict[str, Any]

SILENCE_SECONDS = 30.0  # heartbeat timeout
_HEARTBEATS_PER_TIMEOUT = 6
_HEARTBEAT = b"\n"
_MAX_MESSAGE_BYTES = 16 * 2**20


class LostError(Exception):
    """The other end is gone; the message says how this was noticed."""


class Connection:
    """One end of a connection between hosts.

    One thread calls `receive`; all other methods are thread-safe.

    Args:
        sock: A connected socket; `close` closes it.
        silence_seconds: Heartbeat timeout.
    """

    def __init__(self, sock: socket.socket, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        sock.settimeout(silence_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._lines = sock.makefile("rb")
        self._silence_seconds = silence_seconds
        self._sending = threading.Lock()
        self._is_closing = threading.Event()
        threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True).start()

    @property
    def address(self) -> str:
        """The IP address at the other end."""
        return str(self._sock.getpeername()[0])

    def send(self, message: Message) -> None:
        """Send one message. A broken connection is ignored: `receive` reports it."""
        self._send(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            LostError: the other end is gone, or sent something else than a message.
        """
        line = _HEARTBEAT
        while line == _HEARTBEAT:
            line = self._read_line()
        return _decode(line)

    def finish(self) -> None:
        """Close the sending direction; `receive` still works."""
        self._is_closing.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both directions. A thread that waits in `receive` gets `LostError`."""
        self._is_closing.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._sock.close()

    def _read_line(self) -> bytes:
        try:
            line = self._lines.readline(_MAX_MESSAGE_BYTES)
        except TimeoutError as error:
            raise LostError(f"no heartbeat for {self._silence_seconds:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: closed at this end
            raise LostError(f"its connection broke: {error}") from error
        if not line.endswith(b"\n"):
            raise LostError(
                "it closed its connection without a farewell"
                if len(line) < _MAX_MESSAGE_BYTES
                else f"it sent a message of more than {_MAX_MESSAGE_BYTES} bytes"
            )
        return line

    def _send_heartbeats(self) -> None:
        while not self._is_closing.wait(self._silence_seconds / _HEARTBEATS_PER_TIMEOUT):
            self._send(_HEARTBEAT)

    def _send(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._sock.sendall(data)


def _decode(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LostError("it sent a line that is not JSON") from error
    if not isinstance(message, dict):
        raise LostError("it sent JSON that is not an object")
    return message
