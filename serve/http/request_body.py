"""Request bodies: received and decompressed with limits of size, total memory and time."""

import asyncio
import contextlib
import io
import threading
import zlib
from collections.abc import Iterator, Mapping

from container.errors import (
    MalformedPayloadError,
    OverloadedError,
    PayloadTooLargeError,
    SlowRequestError,
    UnsupportedContentEncodingError,
)
from serve.http.asgi import Message, Receive

_SIZE_SETTING = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
_TIME_SETTING = "SAGEMAKER_MODEL_SERVER_TIMEOUT"
_MEMORY = "the memory granted"
# A refused client is read from for this long, so that it sees the answer and not a reset.
_DISCARD_SECONDS = 2.0
_INFLATE_BYTES = 2**20
# zlib copies the input after the end of a gzip member. Small pieces keep a body of many members
# from being copied once for each.
_DEFLATED_BYTES = 2**14
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class ClientDisconnectedError(Exception):
    """The client disconnected before it had sent its whole request."""


class RequestBodies:
    """The bodies of one worker's requests: received on its event loop, decompressed in any thread.

    Decompression stops at the limits, before a decompression bomb has filled the memory.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_held_bytes: int,
        timeout_seconds: float,
        limit_setting: str = _SIZE_SETTING,
    ) -> None:
        """Args:
        max_bytes: Limit of one body, also of its decompressed form; 0 means `max_held_bytes`.
        max_held_bytes: Limit of all bodies in memory together; 0 means none.
        timeout_seconds: Limit for receiving a body.
        limit_setting: The name of the limit `max_bytes` in an error message.
        """
        self._max_bytes = max_bytes or max_held_bytes
        self._limit_setting = limit_setting if max_bytes else _MEMORY
        self._max_held_bytes = max_held_bytes
        self._timeout_seconds = timeout_seconds
        self._n_held = 0  # bytes of bodies as received; changed on the event loop only
        self._n_inflated = 0  # bytes of decompressed bodies, of all threads
        self._lock = threading.Lock()  # of `_n_inflated`

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Receive a whole body. The caller must call `release` with it.

        Args:
            headers: Of the request, in lower case.
            receive: Of ASGI.
        Raises:
            PayloadTooLargeError, OverloadedError: as soon as a limit is exceeded.
            SlowRequestError: the body did not arrive in time.
            ClientDisconnectedError: the client did not send all of it.
        """
        declared = headers.get(b"content-length", b"")
        if self._max_bytes and declared.isdigit() and int(declared) > self._max_bytes:
            if b"expect" not in headers:  # with `Expect: 100-continue` the client sends no body
                await _discard({"type": "http.request", "more_body": True}, receive)
            raise PayloadTooLargeError(self._max_bytes, self._limit_setting)
        message = await receive()  # most bodies have arrived already, in one piece
        if message["type"] == "http.request" and not message["more_body"]:
            body: bytes = message["body"]
            if not self._max_bytes or len(body) <= self._max_bytes:
                self._refuse_beyond(len(body))
                self._n_held += len(body)
                return body
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read_on(message, receive)
        except TimeoutError as error:
            raise SlowRequestError(self._timeout_seconds, _TIME_SETTING) from error

    def keep(self, answer: bytes) -> None:
        """Count an answer until `release`, too: a slow client keeps it in memory."""
        self._n_held += len(answer)

    def release(self, body: bytes) -> None:
        """Stop counting a body or an answer: it is freed."""
        self._n_held -= len(body)

    @contextlib.contextmanager
    def inflated(
        self, body: bytes, content_encoding: str, *, detects_gzip: bool = False
    ) -> Iterator[bytes]:
        """Undo the content encoding. The result counts as held until the context ends.

        Args:
            body: As received.
            content_encoding: The header in lower case; empty if there is none.
            detects_gzip: A body that begins with gzip's magic number is gzip without a header, too.
        Raises:
            UnsupportedContentEncodingError: the encoding is not gzip.
            MalformedPayloadError: the body is not gzip, or not all of it.
            PayloadTooLargeError, OverloadedError: as soon as a limit is exceeded.
        """
        is_plain = content_encoding in ("", "identity") and not (detects_gzip and is_gzip(body))
        if not body or is_plain:
            yield body
            return
        if content_encoding not in ("", "identity", "gzip", "x-gzip"):
            raise UnsupportedContentEncodingError(content_encoding)
        n_held = 0
        inflated = io.BytesIO()
        try:
            for part in _members(body):
                if self._max_bytes and n_held + len(part) > self._max_bytes:
                    raise PayloadTooLargeError(self._max_bytes, self._limit_setting)
                with self._lock:
                    self._refuse_beyond(len(part))
                    self._n_inflated += len(part)
                n_held += len(part)
                inflated.write(part)
            yield inflated.getvalue()
        finally:
            with self._lock:
                self._n_inflated -= n_held

    async def _read_on(self, message: Message, receive: Receive) -> bytes:
        received = io.BytesIO()  # `getvalue` hands over the buffer without a copy
        n_held = 0
        is_whole = False
        try:
            while not is_whole:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                part: bytes = message["body"]
                if self._max_bytes and n_held + len(part) > self._max_bytes:
                    await _discard(message, receive)
                    raise PayloadTooLargeError(self._max_bytes, self._limit_setting)
                try:
                    self._refuse_beyond(len(part))
                except OverloadedError:
                    await _discard(message, receive)
                    raise
                self._n_held += len(part)
                n_held += len(part)
                received.write(part)
                if message["more_body"]:
                    message = await receive()
                else:
                    is_whole = True
        finally:
            if not is_whole:
                self._n_held -= n_held
        return received.getvalue()

    def _refuse_beyond(self, n_bytes: int) -> None:
        """Raise `OverloadedError` if `n_bytes` more would exceed the limit of all bodies."""
        if 0 < self._max_held_bytes < self._n_held + self._n_inflated + n_bytes:
            raise OverloadedError("bytes of requests in memory", self._max_held_bytes, _MEMORY)


def is_gzip(body: bytes) -> bool:
    """True if the body begins with gzip's magic number, as no format of `container.codecs` does."""
    return body.startswith(_GZIP_MAGIC)


def _members(body: bytes) -> Iterator[bytes]:
    """Decompress the members of a gzip stream, in pieces of bounded size; yield at least one.

    Raises:
        MalformedPayloadError: the body is not gzip, or ends too early.
    """
    stream = zlib.decompressobj(_GZIP_FORMAT)
    deflated = memoryview(body)
    try:
        for start in range(0, len(body), _DEFLATED_BYTES):
            rest: bytes | memoryview = deflated[start : start + _DEFLATED_BYTES]
            while rest:
                if stream.eof:
                    stream = zlib.decompressobj(_GZIP_FORMAT)  # members may follow each other
                yield stream.decompress(rest, _INFLATE_BYTES)
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
    except zlib.error as error:
        raise MalformedPayloadError("the body is not gzip") from error
    if not stream.eof:
        raise MalformedPayloadError("the gzip stream ends too early")


async def _discard(message: Message, receive: Receive) -> None:
    """Receive and drop the rest of a refused body for a moment."""
    deadline = asyncio.get_running_loop().time() + _DISCARD_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while message["type"] == "http.request" and message["more_body"]:
                message = await receive()
