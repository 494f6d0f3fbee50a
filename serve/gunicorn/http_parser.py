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
from typing import Any

from gunicorn.asgi import parser

_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)
_TRAILER_FIELD = re.compile(rb"[\w!#$%&'*+.^`|~-]+:[^\x00-\x08\x0a-\x1f\x7f]*", re.ASCII)
_find_line = parser.PythonProtocol._find_line  # called for every line: `super` takes longer
_MAX_SIZE_DIGITS = 16
_MAX_SIZE_LINE = 256


class StrictParser(parser.PythonProtocol):  # type: ignore[misc]
    """Parser of one connection, whose errors the protocol answers with 400, 414, 431 or 501."""

    __slots__ = ()

    def _finalize_headers(self) -> None:
        """Check the head, then let the stock parser check it and call the protocol."""
        fields = dict(self._headers_list)  # a second Host is refused by the stock parser
        host = fields.get(b"host")
        if host is None:
            if self.http_version >= (1, 1):
                raise parser.InvalidHeader("HTTP/1.1 without Host")
        elif not _HOST.fullmatch(host):
            raise parser.InvalidHeader("Invalid Host")
        if b"transfer-encoding" in fields:
            self._check_codings()
        super()._finalize_headers()

    def _check_codings(self) -> None:
        codings = [
            coding.strip(b" \t").lower()
            for name, value in self._headers_list
            if name == b"transfer-encoding"
            for coding in value.split(b",")
        ]
        if len(codings) > 1 and codings[-1] == b"chunked" and codings.count(b"chunked") == 1:
            raise parser.UnsupportedTransferCoding("chunked is not the only coding")

    def _parse_chunked_body(self) -> bool:
        callbacks: Any = self  # slots of the base class, whose types are not known
        on_body, on_message_complete = callbacks._on_body, callbacks._on_message_complete
        pieces: list[bytes] = []

        def hand_over() -> None:
            if pieces and on_body:
                on_body(b"".join(pieces))
            pieces.clear()

        def complete() -> None:
            hand_over()
            if on_message_complete:
                on_message_complete()

        callbacks._on_body, callbacks._on_message_complete = pieces.append, complete
        try:
            is_over: bool = super()._parse_chunked_body()
        finally:
            callbacks._on_body = on_body
            callbacks._on_message_complete = on_message_complete
        hand_over()
        return is_over

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
