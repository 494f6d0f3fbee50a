"""The head of a request: its syntax, and which body follows (RFC 9112).

A request that two parsers could read in two ways is refused: a proxy before this server would take
the rest of one request for the beginning of the next (request smuggling).
"""

import functools
import re
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_REQUEST_LINE_BYTES = 4094
MAX_FIELD_BYTES = 8188  # of a line, without its end
# A server ignores any number of unknown headers (C-051), up to this bound.
MAX_FIELDS = 1000

Fields = list[tuple[bytes, bytes]]

_REQUEST_LINE = re.compile(rb"([A-Z0-9!$%&'*+.^_`|~-]{3,20}) ([!-~]+) HTTP/(1\.[01])")
_FIELD = re.compile(rb"([\w!#$%&'*+.^`|~-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*")
_LENGTH = re.compile(rb"0{0,1000}[0-9]{1,18}")  # `int` takes 4300 digits
_ABSOLUTE_FORM = re.compile(rb"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CODINGS = {b"chunked", b"compress", b"deflate", b"gzip", b"identity"}
_SINGLE_FIELDS = (b"host", b"content-length", b"content-type")


class InvalidRequestError(Exception):
    """A request that is refused; its connection is closed, because its end is not known."""

    def __init__(self, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status.phrase)
        self.status = status


class RequestLine(NamedTuple):
    """The first line of a valid request."""

    method: str
    path: str  # decoded
    raw_path: bytes
    query: bytes
    version: str  # of HTTP: 1.0 or 1.1


class RequestHead(NamedTuple):
    """The head of a valid request."""

    line: RequestLine
    fields: Fields
    n_body_bytes: int  # 0 for no body, and for a chunked one
    is_chunked: bool
    expects_continue: bool
    closes: bool  # the connection, after the answer


@functools.lru_cache(maxsize=1024)  # most requests of a connection have the same
def parse_request_line(line: bytes) -> RequestLine:
    """Parse the first line of a request.

    Raises:
        InvalidRequestError: with status 400 or 414.
    """
    if len(line) > MAX_REQUEST_LINE_BYTES:
        raise InvalidRequestError(HTTPStatus.REQUEST_URI_TOO_LONG)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise InvalidRequestError
    method, target, version = match.groups()
    if not target.startswith(b"/"):
        _check_target(method, target)
    raw_path, _, query = target.partition(b"?")
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    return RequestLine(
        method.decode(), path.decode("utf-8", "replace"), raw_path, query, version.decode()
    )


def parse_field(line: bytes) -> tuple[bytes, bytes]:
    """Parse a line of a head or a trailer.

    Returns:
        The name in lower case, and the value.
    Raises:
        InvalidRequestError: the line is too long, or no field. Lines that continue another one are
            none (RFC 9112, section 5.2).
    """
    if len(line) > MAX_FIELD_BYTES:
        raise InvalidRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    match = _FIELD.fullmatch(line)
    if match is None:
        raise InvalidRequestError
    name, value = match.groups()
    return name.lower(), value.strip(b" \t")


def check_unfinished(line: bytes, limit: int, status: HTTPStatus) -> None:
    """Refuse the beginning of a line that can only become an invalid one."""
    if b"\n" in line:
        raise InvalidRequestError
    if len(line) > limit + 1:  # the last byte may be the first of its end
        raise InvalidRequestError(status)


def parse_head(line: RequestLine, fields: Fields) -> RequestHead:
    """Check a whole head, and find out which body follows.

    Args:
        line: The first line.
        fields: The others, as `parse_field` returns them.
    Raises:
        InvalidRequestError: with status 400, 403 or 501.
    """
    by_name = dict(fields)
    if len(by_name) < len(fields):
        _check_repeated(fields)
    host = by_name.get(b"host")
    if (host is None and line.version == "1.1") or (host and not _HOST.fullmatch(host)):
        raise InvalidRequestError
    length = by_name.get(b"content-length")
    is_chunked = b"transfer-encoding" in by_name
    if is_chunked:
        if length is not None or line.version == "1.0":
            raise InvalidRequestError
        _check_codings(_values(fields, b"transfer-encoding"))
    elif length is not None and not _LENGTH.fullmatch(length):
        raise InvalidRequestError
    options = _values(fields, b"connection") if b"connection" in by_name else []
    if b"upgrade" in options and by_name.get(b"upgrade", b"").lower() == b"websocket":
        raise InvalidRequestError(HTTPStatus.FORBIDDEN)  # there is no WebSocket route
    return RequestHead(
        line,
        fields,
        0 if length is None else int(length),
        is_chunked,
        by_name.get(b"expect", b"").lower() == b"100-continue" and line.version == "1.1",
        _closes(line, options),
    )


def _check_target(method: bytes, target: bytes) -> None:
    """Refuse a target that has none of the forms of RFC 9112, section 3.2."""
    is_of_options = target == b"*" and method == b"OPTIONS"
    if not (is_of_options or method == b"CONNECT" or _ABSOLUTE_FORM.match(target)):
        raise InvalidRequestError


def _check_repeated(fields: Fields) -> None:
    """Refuse several lines of a field that has one value (RFC 9110, section 5.3)."""
    names = [name for name, _ in fields]
    if any(names.count(name) > 1 for name in _SINGLE_FIELDS):
        raise InvalidRequestError


def _check_codings(codings: list[bytes]) -> None:
    """Refuse transfer codings besides `chunked`.

    The encoded body would be taken for its content, and without `chunked` at the end its length is
    not known (RFC 9112, sections 6.1, 6.3).
    """
    if codings == [b"chunked"]:
        return
    has_length = codings[-1] == b"chunked" and codings.count(b"chunked") == 1
    if _CODINGS.issuperset(codings) and not has_length:
        raise InvalidRequestError
    raise InvalidRequestError(HTTPStatus.NOT_IMPLEMENTED)


def _closes(line: RequestLine, options: list[bytes]) -> bool:
    if line.method == "CONNECT" or b"close" in options:
        return True
    return line.version == "1.0" and b"keep-alive" not in options


def _values(fields: Fields, name: bytes) -> list[bytes]:
    """The members of a list, in lower case; the list may have several lines."""
    lines = b",".join(value for other, value in fields if other == name)
    return [member.strip(b" \t").lower() for member in lines.split(b",")]
