"""The heads of answers."""

import functools
import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from serve.http.error_body import CONTENT_TYPE, error_body, request_id

_NAME = re.compile(rb"[\w!#$%&'*+.^`|~-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ResponseHead(NamedTuple):
    """An encoded head, without the fields that differ from one connection or second to the next."""

    encoded: bytes
    has_body: bool  # False if the status has none
    length: int | None  # of the body; None if it is not known yet
    closes: bool  # the connection, after the answer


@functools.lru_cache(maxsize=256)  # most answers of a model have the same fields
def response_head(status: int, fields: tuple[tuple[bytes, bytes], ...]) -> ResponseHead:
    """Encode a head.

    Raises:
        ValueError: a field cannot be sent; one with a line end would be read as two.
    """
    has_body = status >= 200 and status not in (204, 304)
    length = None
    closes = False
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()]
    for name, value in fields:
        lowered = name.lower()
        is_length = lowered == b"content-length"
        is_valid = _NAME.fullmatch(name) and (_DIGITS if is_length else _VALUE).fullmatch(value)
        if not is_valid or lowered == b"transfer-encoding":
            raise ValueError(f"header {name!r} cannot be sent")
        if is_length:
            length = int(value)
        if has_body or not is_length:
            lines.append(b"%b: %b\r\n" % (name, value))
        closes = closes or (lowered == b"connection" and value.lower() == b"close")
    return ResponseHead(b"".join(lines), has_body, length, closes)


def date_field() -> bytes:
    """The line of the `Date` field."""
    return _date_field(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_field(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()


def refusal(status: HTTPStatus) -> bytes:
    """Encode the whole answer to a request that is not valid HTTP, or that failed; it closes.

    It does not quote the request.
    """
    code, message = "invalid_http", f"the request is refused: {status.phrase}"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        code, message = "internal_error", "the request failed; see the log"
    body = error_body(code, message, request_id(""))
    fields = (
        (b"Content-Type", CONTENT_TYPE.encode()),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    )
    return response_head(status, fields).encoded + date_field() + b"\r\n" + body
