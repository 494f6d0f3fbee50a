"""Decoding of chunked bodies (RFC 9112, section 7.1), strict and bounded."""

import re
from http import HTTPStatus

from serve.http1.request_head import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    InvalidRequestError,
    check_unfinished,
    parse_field,
)

# 16 digits are more bytes than any client sends. Long extensions cost more than the data.
_MAX_SIZE_LINE_BYTES = 256
_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_TOKEN = rb"[\w!#$%&'*+.^`|~-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_UNFINISHED_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{0,16}(?:[ \t]*|[ \t]*;[^\r\n]*)\r?")
# They would change what the request is, after its head was checked (RFC 9110, section 6.5.1).
_NEVER_IN_TRAILER = {
    b"authorization",
    b"content-length",
    b"host",
    b"te",
    b"trailer",
    b"transfer-encoding",
}


class ChunkedBody:
    """Decoder of one body. Extensions and the trailer are checked and dropped."""

    __slots__ = ("_has_last_chunk", "_is_at_end_of_chunk", "_n_fields", "_n_missing", "is_complete")

    def __init__(self) -> None:
        self.is_complete = False
        self._n_missing = 0  # bytes of the current chunk
        self._is_at_end_of_chunk = False
        self._has_last_chunk = False
        self._n_fields = 0

    def decode(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Decode as much as possible.

        Args:
            data: What was returned by the last call, and what has arrived since.
            pieces: The data of chunks is appended.
        Returns:
            What cannot be decoded yet, less than a line; after the end of the body, the rest.
        Raises:
            InvalidRequestError: as soon as the body is invalid.
        """
        at = 0
        while not self._has_last_chunk:
            if self._n_missing:
                piece = data[at : at + self._n_missing]
                pieces.append(piece)
                at += len(piece)
                self._n_missing -= len(piece)
                if self._n_missing:
                    return b""
            if self._is_at_end_of_chunk:
                end = data[at : at + 2]
                if end != b"\r\n":
                    if end in (b"", b"\r"):
                        return end
                    raise InvalidRequestError
                at += 2
                self._is_at_end_of_chunk = False
            end_of_line = data.find(b"\r\n", at)
            if end_of_line < 0:
                return _unfinished_size_line(data[at:])
            self._begin_chunk(data[at:end_of_line])
            at = end_of_line + 2
        return self._read_trailer(data, at)

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(line) > _MAX_SIZE_LINE_BYTES:
            raise InvalidRequestError
        self._n_missing = int(match[1], 16)
        if self._n_missing:
            self._is_at_end_of_chunk = True
        else:
            self._has_last_chunk = True

    def _read_trailer(self, data: bytes, at: int) -> bytes:
        while (end := data.find(b"\r\n", at)) > at:
            self._n_fields += 1
            if self._n_fields > MAX_FIELDS:
                raise InvalidRequestError(_TOO_LARGE)
            if parse_field(data[at:end])[0] in _NEVER_IN_TRAILER:
                raise InvalidRequestError
            at = end + 2
        if end < 0:
            check_unfinished(data[at:], MAX_FIELD_BYTES, _TOO_LARGE)
            return data[at:]
        self.is_complete = True
        return data[at + 2 :]


def _unfinished_size_line(line: bytes) -> bytes:
    """Return the beginning of a line, or refuse it before its end arrives."""
    if len(line) > _MAX_SIZE_LINE_BYTES + 1 or not _UNFINISHED_SIZE_LINE.fullmatch(line):
        raise InvalidRequestError
    return line
