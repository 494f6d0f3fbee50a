"""Parsing of partial requests; `tests/corpus/http` has whole requests."""

from collections.abc import Callable

import pytest
from gunicorn.asgi import parser as stock

from serve.gunicorn.http_parser import StrictParser

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
    ("head", "error"),
    [
        (b"Transfer-Encoding: gzip, chunked\r\n", stock.UnsupportedTransferCoding),
        (
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            stock.UnsupportedTransferCoding,
        ),
        (b"Transfer-Encoding: chunked, chunked\r\n", stock.InvalidHeader),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", stock.InvalidHeader),
    ],
)
def test_body_is_chunked_and_nothing_else(head: bytes, error: type[Exception]) -> None:
    """501 for an unsupported coding, 400 for ambiguous lengths (RFC 9112, section 6.1)."""
    with pytest.raises(error):
        _parser().feed(b"POST /x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")


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
