"""Frames between a worker and a model process: a JSON header and a body, on a stream socket.

    4 bytes length of the header | 8 bytes length of the body | header | body

A body is copied once into the kernel and once out of it.
"""

import socket
import struct
import time
from typing import Any

import orjson

_LENGTHS = struct.Struct("<IQ")
_TIMEVAL = struct.Struct("@ll")
_MAX_HEADER_BYTES = 2**20
_MAX_AT_ONCE = 2**24  # bytes of one call; the deadline is checked between two of them
_SMALL_BYTES = 2**16  # a frame with such a body is sent by one call


class BodyTooLargeError(Exception):
    """The other end announced a body above the limit; it was not received."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class Channel:
    """One end of the connection between a worker and a model process."""

    def __init__(self, connection: socket.socket) -> None:
        """Args:
        connection: Blocking. The kernel counts the time of each call; with a timeout of Python's a
            call would take a `poll` before it.
        """
        self._connection = connection
        self._deadline: float | None = None

    def limit_seconds(self, seconds: float) -> None:
        """Limit the time of the next frames together; then they raise `TimeoutError`."""
        self._deadline = time.monotonic() + seconds

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame.

        Raises:
            TimeoutError: the other end does not read.
            OSError: the other end is closed.
        """
        packed = orjson.dumps(header)
        head = _LENGTHS.pack(len(packed), len(body)) + packed
        if len(body) <= _SMALL_BYTES:
            self._send(head + body)
            return
        self._send(head)
        view = memoryview(body)
        for start in range(0, len(body), _MAX_AT_ONCE):
            self._send(view[start : start + _MAX_AT_ONCE])

    def receive(self, *, max_bytes: int | None = None) -> tuple[dict[str, Any], bytes]:
        """Receive a frame.

        Args:
            max_bytes: Limit of the body; None for no limit.
        Raises:
            EOFError: the other end is closed.
            TimeoutError: it sent no whole frame in time.
            OSError: the connection is broken.
            ValueError: it did not send a frame.
            BodyTooLargeError: the body exceeds the limit.
            MemoryError: there is no room for the body.
        """
        n_header, n_body = _LENGTHS.unpack(self._exactly(_LENGTHS.size))
        if n_header > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {n_header} bytes")
        header = orjson.loads(self._exactly(n_header))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")  # noqa: TRY004 - of the other end
        if max_bytes is not None and n_body > max_bytes:
            raise BodyTooLargeError(n_body)
        return header, self._exactly(n_body) if n_body else b""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def shut_down(self) -> None:
        """End the connection; wakes a thread that waits for a frame."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def _send(self, data: bytes | memoryview) -> None:
        self._limit(socket.SO_SNDTIMEO)
        try:
            self._connection.sendall(data)
        except BlockingIOError as error:
            raise TimeoutError("the other end does not read") from error

    def _exactly(self, n_bytes: int) -> bytes:
        """Receive so many bytes."""
        received = self._some(n_bytes)
        if len(received) == n_bytes:
            return received
        pieces = [received]
        missing = n_bytes - len(received)
        while missing:
            pieces.append(self._some(min(missing, _MAX_AT_ONCE)))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _some(self, n_bytes: int) -> bytes:
        """Receive at least one byte, and all of them unless a signal or the limit interrupts."""
        self._limit(socket.SO_RCVTIMEO)
        try:
            received = self._connection.recv(min(n_bytes, 2**30), socket.MSG_WAITALL)
        except BlockingIOError as error:
            raise TimeoutError("the other end does not answer") from error
        if not received:
            raise EOFError
        return received

    def _limit(self, option: int) -> None:
        """Limit the next call to the time that is left."""
        if self._deadline is None:
            return
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time is over")
        whole = int(seconds)
        limit = _TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))
        self._connection.setsockopt(socket.SOL_SOCKET, option, limit)
