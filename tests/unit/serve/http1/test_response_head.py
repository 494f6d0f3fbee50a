"""Heads of answers, and refusals."""

import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import pytest

from serve.http1 import response_head as heads
from serve.http1.response_head import date_field, refusal, response_head


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"\0"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"Transfer-Encoding", b"chunked"),
        (b"content-length", b"1, 1"),
    ],
)
def test_field_that_would_change_the_answer_is_refused(field: tuple[bytes, bytes]) -> None:
    """A line end in a value would begin another field, or another answer (response splitting)."""
    with pytest.raises(ValueError, match="header"):
        response_head(200, (field,))


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(status: int) -> None:
    """204 has no Content-Length either (RFC 9110, section 8.6)."""
    head = response_head(status, ((b"content-length", b"0"), (b"x", b"y")))

    assert not head.has_body
    assert head.encoded.endswith(b"\r\nx: y\r\n")
    assert b"content-length" not in head.encoded


def test_head_says_what_follows() -> None:
    """Status line, fields in their order; length and closing for the connection."""
    fields = ((b"Content-Length", b"3"), (b"x", b"\xe4"), (b"connection", b"Close"))

    head = response_head(418, fields)

    start = b"HTTP/1.1 418 I'm a Teapot\r\n"
    assert head.encoded == start + b"Content-Length: 3\r\nx: \xe4\r\nconnection: Close\r\n"
    assert (head.has_body, head.length, head.closes) == (True, 3, True)
    assert response_head(299, ()).encoded == b"HTTP/1.1 299 \r\n"


def test_date_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded once a second."""
    seconds = []
    for now in (1e9, 1e9 + 0.5, 1e9 + 1):
        monkeypatch.setattr(heads.time, "time", lambda now=now: now)
        line = date_field().decode()
        seconds.append(parsedate_to_datetime(line.removeprefix("date: ").strip()).timestamp())

    assert seconds == [1e9, 1e9, 1e9 + 1]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (HTTPStatus.BAD_REQUEST, "invalid_http"),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error"),
    ],
)
def test_refusal_has_the_body_of_all_errors(status: HTTPStatus, code: str) -> None:
    """JSON, in an answer that closes the connection."""
    head, _, body = refusal(status).partition(b"\r\n\r\n")

    assert head.startswith(f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode())
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert b"\r\nConnection: close\r\n" in head
    assert json.loads(body)["error"]["code"] == code
