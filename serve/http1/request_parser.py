"""Parsing of requests from the bytes of a connection, in whatever pieces they arrive."""

from http import HTTPStatus

from serve.http1.chunked_body import ChunkedBody
from serve.http1.request_head import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_REQUEST_LINE_BYTES,
    Fields,
    InvalidRequestError,
    RequestHead,
    RequestLine,
    check_unfinished,
    parse_field,
    parse_head,
    parse_request_line,
)


class RequestParser:
    """Parser of one connection. It parses one request at a time, and keeps what follows."""

    __slots__ = (
        "_body",
        "_chunks",
        "_fields",
        "_has_skipped_line",
        "_later",
        "_line",
        "_n_fields",
        "_n_missing",
        "_unparsed",
        "head",
        "is_complete",
        "n_held",
    )

    def __init__(self) -> None:
        self._later: list[bytes] = []  # what follows the current request
        self.n_held = 0  # bytes of the body and of what follows
        self._begin()

    def _begin(self) -> None:
        self.head: RequestHead | None = None  # of the current request, once it has arrived
        self.is_complete = False  # the current request has arrived
        self._body: list[bytes] = []  # pieces that nobody has taken
        self._unparsed = b""  # less than a line
        self._has_skipped_line = False
        self._line: RequestLine | None = None
        self._fields: Fields = []
        self._n_fields = 0
        self._n_missing = 0  # bytes of a body without chunks
        self._chunks: ChunkedBody | None = None

    def feed(self, data: bytes) -> None:
        """Parse data.

        Raises:
            InvalidRequestError: as soon as the request is invalid.
        """
        if not self.is_complete:
            if self._unparsed:
                data = self._unparsed + data
                self._unparsed = b""
            if self.head is None:
                data = self._parse_head(data)
            if self.head is not None:
                data = self._parse_body(data)
            if not self.is_complete:
                self._unparsed = data
                return
        if data:
            self._later.append(data)
            self.n_held += len(data)

    def take_body(self) -> bytes:
        """Return what has arrived of the body since the last call."""
        body = b"".join(self._body)
        self._body.clear()
        self.n_held -= len(body)
        return body

    def begin_next(self) -> None:
        """Parse the next request, after a complete one.

        Raises:
            InvalidRequestError: it is invalid.
        """
        data = b"".join(self._later)
        self._later.clear()
        self.n_held = 0
        self._begin()
        if data:
            self.feed(data)

    def _parse_head(self, data: bytes) -> bytes:
        """Parse lines up to the empty one, and return what follows them."""
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            at = end + 2
            if self._line is None:
                self._begin_head(line)
            elif line:
                self._add_field(line)
            else:
                self.head = parse_head(self._line, self._fields)
                if self.head.is_chunked:
                    self._chunks = ChunkedBody()
                self._n_missing = self.head.n_body_bytes
                return data[at:]
        rest = data[at:]
        if self._line is None:
            check_unfinished(rest, MAX_REQUEST_LINE_BYTES, HTTPStatus.REQUEST_URI_TOO_LONG)
        else:
            check_unfinished(rest, MAX_FIELD_BYTES, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return rest

    def _begin_head(self, line: bytes) -> None:
        """Parse the first line; one empty line before it is ignored (RFC 9112, section 2.2)."""
        if line or self._has_skipped_line:
            self._line = parse_request_line(line)
        self._has_skipped_line = True

    def _add_field(self, line: bytes) -> None:
        self._n_fields += 1
        if self._n_fields > MAX_FIELDS:
            raise InvalidRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        field = parse_field(line)
        # CGI's variables, and so WSGI's, have one name for `a-b` and `a_b`.
        if b"_" not in field[0]:
            self._fields.append(field)

    def _parse_body(self, data: bytes) -> bytes:
        """Keep what belongs to the body, and return the rest."""
        if self._chunks is not None:
            pieces: list[bytes] = []
            rest = self._chunks.decode(data, pieces)
            piece = b"".join(pieces)
            self.is_complete = self._chunks.is_complete
        else:
            piece, rest = data[: self._n_missing], data[self._n_missing :]
            self._n_missing -= len(piece)
            self.is_complete = not self._n_missing
        if piece:
            self._body.append(piece)
            self.n_held += len(piece)
        return rest
