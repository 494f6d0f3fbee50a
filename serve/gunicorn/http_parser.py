"""gunicorn's HTTP/1.1 parser, made stricter against request smuggling.

Differences from gunicorn 27.0.1 (`gunicorn.asgi.parser`), each with the section of RFC 9112:

- HTTP/1.1 without `Host`, or with one that cannot be a host, is refused (3.2).
- A transfer coding besides `chunked` is refused: the encoded body would be taken for its content
  (6.1).
- The line of a chunk's size is bounded, and refused before its end arrives: 16 digits are more
  bytes than any client sends, and long extensions cost more than the data (7.1.1).
- A line of the trailer must be a field, as in the head (7.1.2).

Chunks that arrive together are handed over as one piece of the body. Receiving a piece takes longer
than parsing a chunk, and a client may send a hundred thousand chunks of one byte.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from gunicorn.asgi import parser

_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)
_TRAILER_FIELD = re.compile(rb"[\w!#$%&'*+.^`|~-]+:[^\x00-\x08\x0a-\x1f\x7f]*", re.ASCII)
# Called often, and `super` takes longer.
_feed = parser.PythonProtocol.feed
_find_line = parser.PythonProtocol._find_line
_MAX_SIZE_DIGITS = 16
_MAX_SIZE_LINE = 256


def refused_head(headers: Sequence[tuple[bytes, bytes]], version: str) -> HTTPStatus | None:
    """Check the head of a request that the parser has accepted.

    Args:
        headers: Names in lower case, and values.
        version: Of HTTP, e.g. `1.1`.
    Returns:
        The status of the refusal; None for a valid head.
    """
    fields = dict(headers)  # the parser has refused a second Host
    host = fields.get(b"host")
    if host is None:
        if version >= "1.1":
            return HTTPStatus.BAD_REQUEST
    elif not _HOST.fullmatch(host):
        return HTTPStatus.BAD_REQUEST
    if b"transfer-encoding" in fields:
        codings = b",".join(value for name, value in headers if name == b"transfer-encoding")
        if codings.strip(b" \t").lower() != b"chunked":
            return HTTPStatus.NOT_IMPLEMENTED
    return None


class StrictParser(parser.PythonProtocol):  # type: ignore[misc]
    """Parser of one connection, whose errors the protocol answers with 400, 414, 431 or 501."""

    __slots__ = ("_hand_over", "_pieces")

    def __init__(
        self,
        *,
        on_body: Callable[[bytes], object] | None = None,
        on_message_complete: Callable[[], object] | None = None,
        **options: Any,
    ) -> None:
        """Args:
        on_body: Called with the pieces of a body.
        on_message_complete: Called at the end of a request.
        options: Of `gunicorn.asgi.parser.PythonProtocol`.
        """
        pieces: list[bytes] = []

        # These functions do not refer to the parser: no reference cycle keeps a closed connection.
        def hand_over() -> None:
            body = b"".join(pieces)
            pieces.clear()
            if on_body is not None:
                on_body(body)

        def complete() -> None:
            if pieces:
                hand_over()
            if on_message_complete is not None:
                on_message_complete()

        super().__init__(on_body=pieces.append, on_message_complete=complete, **options)
        self._pieces = pieces
        self._hand_over = hand_over

    def feed(self, data: bytes) -> None:
        """Parse data, and hand over all of the body in it as one piece."""
        _feed(self, data)
        if self._pieces:
            self._hand_over()

    def _find_line(self, limit: int, error: Exception) -> int:
        """Find the length of the line at the start of the buffer; -1 without its end."""
        length: int = _find_line(self, limit, error)
        if self._state == "chunked":
            line = bytes(self._buffer if length < 0 else self._buffer[:length])
            if self._chunk_state == "size":
                digits = line.partition(b";")[0]
                if len(digits.rstrip(b" \t\r")) > _MAX_SIZE_DIGITS or len(line) > _MAX_SIZE_LINE:
                    raise parser.InvalidChunkSize("chunk size line is too long")
            elif length > 0 and not _TRAILER_FIELD.fullmatch(line):
                raise parser.InvalidHeader("Invalid trailer field")
        return length


def install() -> None:
    """Make gunicorn's protocol use this parser for every connection."""
    from gunicorn.asgi import protocol

    protocol.PythonProtocol = StrictParser
