"""Parsing of partial requests; `tests/corpus/http` has whole requests."""

from collections.abc import Callable

import pytest
from gunicorn.asgi import parser as stock

from serve.gunicorn.http_parser import StrictParser, refused_head

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def _parser(on_body: Callable[[bytes], None] = lambda piece: None) -> StrictParser:
    return StrictParser(on_body=on_body)


def _feed(parser: StrictParser, data: bytes, is_in_pieces: bool) -> None:
    pieces = [data[at : at + 1] for at in range(len(data))] if is_in_pieces else [data]
    for piece in pieces:
        parser.feed(piece)


@pytest.mark.parametrize(
    "tail",
    [
        b"0" * 17,
        b"5;" + b"a" * 255,
        b"5;" + b"a" * 255 + b"\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n: no name\r\n",
        b"0\r\n folded: line\r\n",
        b"0\r\nX: \x01\r\n",
    ],
)
@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_chunked_framing_is_refused_as_soon_as_it_is_wrong(tail: bytes, is_in_pieces: bool) -> None:
    """Refused without waiting for the rest of the line (RFC 9112, section 7.1)."""
    parser = _parser()
    parser.feed(HEAD)

    with pytest.raises(stock.ParseError):
        _feed(parser, tail, is_in_pieces)


@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_chunks_with_extensions_and_trailer_are_a_body(is_in_pieces: bool) -> None:
    """Extensions and trailers are skipped, wherever the data is cut (RFC 9112, section 7.1)."""
    pieces: list[bytes] = []
    parser = _parser(pieces.append)
    message = HEAD + b'0000000000000003 \t; a="b;c"\r\n1,2\r\n000\r\nX-Sum: 3\r\nX-Empty:\r\n\r\n'

    _feed(parser, message, is_in_pieces)

    assert b"".join(pieces) == b"1,2"
    assert parser.is_complete


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ],
)
def test_ambiguous_length_is_refused(head: bytes) -> None:
    """The end of such a body is not known (RFC 9112, section 6.3)."""
    with pytest.raises(stock.InvalidHeader):
        _parser().feed(b"POST /x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")


@pytest.mark.parametrize(
    ("version", "head", "status"),
    [
        ("1.1", b"Host: x:80\r\n", None),
        ("1.1", b"Host:\r\n", None),
        ("1.0", b"", None),
        ("1.1", b"", 400),
        ("1.1", b"Host: a/b\r\n", 400),
        ("1.0", b"Host: a b\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: Chunked\r\n", None),
        ("1.1", b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("1.1", b"Host: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
    ],
)
def test_head_has_a_host_and_no_unsupported_coding(
    version: str, head: bytes, status: int | None
) -> None:
    """400 without a valid Host, 501 for an unsupported coding (RFC 9112, sections 3.2, 6.1)."""
    parser = _parser()
    parser.feed(f"POST /x HTTP/{version}\r\n".encode() + head + b"\r\n")

    assert refused_head(parser.headers, version) == status


def test_chunks_that_come_together_are_one_piece_of_the_body() -> None:
    """Many small chunks of one client do not delay the pings of others for seconds."""
    events: list[bytes | str] = []
    parser = StrictParser(
        on_body=events.append, on_message_complete=lambda: events.append("complete")
    )
    parser.feed(HEAD)
    for _ in range(2):
        parser.feed(b"1\r\na\r\n" * 1000 + b"2\r\nb")
        parser.feed(b"c\r\n")
    parser.feed(b"1\r\nd\r\n0\r\n\r\n")

    assert events == [*[b"a" * 1000 + b"b", b"c"] * 2, b"d", "complete"]
