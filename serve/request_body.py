"""Request bodies: bounded one by one, together, and in time."""

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from container.errors import (
    MalformedPayloadError,
    OverloadedError,
    PayloadTooLargeError,
    SlowRequestError,
    UnsupportedContentEncodingError,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_SIZE_SETTING = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
_TIME_SETTING = "SAGEMAKER_MODEL_SERVER_TIMEOUT"
# How long a client that is refused is listened to, so that it sees the answer and not a reset.
_DISCARD_SECONDS = 2.0
_INFLATE_BYTES = 2**20
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class ClientDisconnectedError(Exception):
    """The client went away before it had sent its whole request."""


class RequestBodies:
    """Reads the bodies of one worker's requests; used from its event loop only."""

    def __init__(self, *, max_bytes: int, max_held_bytes: int, timeout_seconds: float) -> None:
        """Args:
        max_bytes: Limit of one body, also once it is decompressed; 0 means none.
        max_held_bytes: Limit of all bodies that are being received or worked on.
        timeout_seconds: How long a body may take to arrive.
        """
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._timeout_seconds = timeout_seconds
        self._n_held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Receive a whole body. Whoever gets it gives it back with `release`.

        Raises:
            PayloadTooLargeError, OverloadedError: as soon as it is known.
            SlowRequestError, ClientDisconnectedError: it did not come, or not all of it.
        """
        declared = headers.get(b"content-length", b"")
        if self._max_bytes and declared.isdigit() and int(declared) > self._max_bytes:
            if b"expect" not in headers:  # who asks first sends nothing when refused
                await _discard({"type": "http.request", "more_body": True}, receive)
            raise PayloadTooLargeError(self._max_bytes, _SIZE_SETTING)
        message = await receive()  # most bodies are there already, in one piece
        if message["type"] == "http.request" and not message["more_body"]:
            body: bytes = message["body"]
            if not self._max_bytes or len(body) <= self._max_bytes:
                self._hold(len(body))
                return body
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read_on(message, receive)
        except TimeoutError as error:
            raise SlowRequestError(self._timeout_seconds, _TIME_SETTING) from error

    def release(self, body: bytes) -> None:
        """Say that a body is not needed any more."""
        self._n_held -= len(body)

    def inflate(self, body: bytes, content_encoding: str) -> bytes:
        """Undo the content encoding under the limit of a body; may run in any thread.

        Raises:
            UnsupportedContentEncodingError, MalformedPayloadError, PayloadTooLargeError
        """
        if not body or content_encoding in ("", "identity"):
            return body
        if content_encoding not in ("gzip", "x-gzip"):
            raise UnsupportedContentEncodingError(content_encoding)
        parts: list[bytes] = []
        n_bytes = 0
        stream = zlib.decompressobj(_GZIP_FORMAT)
        rest = body
        try:
            while rest:
                parts.append(stream.decompress(rest, _INFLATE_BYTES))
                n_bytes += len(parts[-1])
                if self._max_bytes and n_bytes > self._max_bytes:
                    raise PayloadTooLargeError(self._max_bytes, _SIZE_SETTING)
                rest = stream.unconsumed_tail
                if stream.eof and (rest := stream.unused_data):
                    stream = zlib.decompressobj(_GZIP_FORMAT)  # members may follow each other
        except zlib.error as error:
            raise MalformedPayloadError("the body is not gzip") from error
        if not stream.eof:
            raise MalformedPayloadError("the gzip stream ends too early")
        return b"".join(parts)

    async def _read_on(self, message: Message, receive: Receive) -> bytes:
        parts: list[bytes] = []
        n_held = 0
        is_whole = False
        try:
            while not is_whole:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                part: bytes = message["body"]
                if self._max_bytes and n_held + len(part) > self._max_bytes:
                    await _discard(message, receive)
                    raise PayloadTooLargeError(self._max_bytes, _SIZE_SETTING)
                if self._n_held + len(part) > self._max_held_bytes:
                    await _discard(message, receive)
                self._hold(len(part))
                n_held += len(part)
                parts.append(part)
                if message["more_body"]:
                    message = await receive()
                else:
                    is_whole = True
        finally:
            if not is_whole:
                self._n_held -= n_held
        return b"".join(parts)

    def _hold(self, n_bytes: int) -> None:
        if self._n_held + n_bytes > self._max_held_bytes:
            raise OverloadedError(
                "bytes of requests in hand", self._max_held_bytes, "the memory granted"
            )
        self._n_held += n_bytes


async def _discard(message: Message, receive: Receive) -> None:
    """Read on for a moment; the parts that have been read already are given up by then."""
    deadline = asyncio.get_running_loop().time() + _DISCARD_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while message["type"] == "http.request" and message["more_body"]:
                message = await receive()
