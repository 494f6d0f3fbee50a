"""Parsing of requests in pieces of any size; `tests/corpus/http` has whole requests."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.http1.request_head import InvalidRequestError, RequestHead
from serve.http1.request_parser import RequestParser

CORPUS = [
    path.read_bytes() for path in (Path(__file__).parents[3] / "corpus" / "http").glob("*.http")
]
# Every request of the corpus, without those that are large.
SMALL = sorted(case for case in CORPUS if len(case) < 3000)
POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# The machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Parsed:
    """The requests in the bytes of a connection, and the status of the refusal, if any."""

    def __init__(self, *pieces: bytes) -> None:
        self.requests: list[tuple[RequestHead, bytes]] = []
        self.status: int | None = None
        self.parser = RequestParser()
        self._body = b""
        try:
            for piece in pieces:
                self.parser.feed(piece)
                self._take()
                while self.parser.is_complete:
                    assert self.parser.head is not None
                    self.requests.append((self.parser.head, self._body))
                    self._body = b""
                    self.parser.begin_next()
                    self._take()
        except InvalidRequestError as refused:
            self.status = refused.status

    def _take(self) -> None:
        self._body += self.parser.take_body()


def _bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@st.composite
def _cut(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes in pieces."""
    whole = draw(data)
    positions = draw(st.lists(st.integers(0, len(whole)), max_size=12))
    bounds = [0, *sorted(positions), len(whole)]
    return [whole[start:end] for start, end in pairwise(bounds)]


_BITS = [b"\r\n", b"\n", b"\r", b" ", b":", b";", b",", b"0", b"\0", b"chunked", b"Host: y\r\n"]


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A few requests of the corpus, one after the other, with some bytes changed."""
    whole = b"".join(draw(st.lists(st.sampled_from(SMALL), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, min(start + 5, len(whole))))
        whole = whole[:start] + draw(st.sampled_from(_BITS) | st.binary(max_size=3)) + whole[end:]
    return whole


@patient
@given(_cut(_mutated()))
def test_any_cut_gives_the_same_requests(pieces: list[bytes]) -> None:
    """Valid or not; TCP delivers bytes, not requests."""
    whole, cut = Parsed(b"".join(pieces)), Parsed(*pieces)

    assert cut.requests == whole.requests
    assert (cut.status is None) == (whole.status is None)


@patient
@given(_cut(st.binary(max_size=200)))
def test_any_bytes_are_a_request_or_refused(pieces: list[bytes]) -> None:
    """Nothing but the refusal is raised."""
    assert Parsed(*pieces).requests == []


@patient
@given(_cut(st.binary(max_size=100).map(lambda tail: CHUNKED + tail)))
def test_any_bytes_are_a_chunked_body_or_refused(pieces: list[bytes]) -> None:
    """Nothing but the refusal is raised."""
    assert len(Parsed(*pieces).requests) <= 1


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@patient
@given(bodies=st.lists(st.lists(st.binary(min_size=1, max_size=40), max_size=4), max_size=4))
def test_bodies_are_what_was_sent(bodies: list[list[bytes]]) -> None:
    """Of declared length and chunked ones, pipelined."""
    data = b""
    for pieces in bodies:
        body = b"".join(pieces)
        data += POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        data += CHUNKED + b"".join(map(_chunk, pieces)) + b"0\r\n\r\n"

    parsed = Parsed(data)

    assert parsed.status is None
    assert [body for _, body in parsed.requests] == [b"".join(p) for p in bodies for _ in range(2)]


@pytest.mark.parametrize(
    "tail",
    [
        b"0" * 17,
        b"5;" + b"a" * 256,
        b"5;" + b"a" * 255 + b"\r\n",
        b"g",
        b"+5",
        b"5 5",
        b"0x5",
        b"5\n",
        b"5;a\n",
        b"5;\r\n",
        b'5;a="b\r\n',
        b"1\r\nab",
        b"1\r\na\n",
        b"\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n: no name\r\n",
        b"0\r\n folded: line\r\n",
        b"0\r\nX: \x01\r\n",
        b"0\r\nX: y\n",
        b"0\r\nContent-Length: 5\r\n",
    ],
)
@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_chunked_framing_is_refused_as_soon_as_it_is_wrong(tail: bytes, is_in_pieces: bool) -> None:
    """Refused without waiting for the rest of the line (RFC 9112, section 7.1)."""
    parsed = Parsed(CHUNKED, *(_bytewise(tail) if is_in_pieces else [tail]))

    assert parsed.status == 400


@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_chunks_with_extensions_and_trailer_are_a_body(is_in_pieces: bool) -> None:
    """Extensions and trailers are skipped, wherever the data is cut (RFC 9112, section 7.1)."""
    data = CHUNKED + b'0000000000000003 \t; a="b;c"\r\n1,2\r\n000\r\nX-Sum: 3\r\nX-Empty:\r\n\r\n'

    parsed = Parsed(*(_bytewise(data) if is_in_pieces else [data]))

    assert [body for _, body in parsed.requests] == [b"1,2"]


@pytest.mark.parametrize("field", [b"X: y\r\n", b"X: " + b"y" * 8190])
def test_trailer_is_bounded(field: bytes) -> None:
    """431 for too many fields or a long one."""
    assert Parsed(CHUNKED + b"0\r\n" + field * 1001).status == 431


@pytest.mark.parametrize(
    ("version", "head", "status"),
    [
        ("1.1", b"Host: x:80\r\n", None),
        ("1.1", b"Host:\r\n", None),
        ("1.0", b"", None),
        ("1.1", b"", 400),
        ("1.1", b"Host: a/b\r\n", 400),
        ("1.0", b"Host: a b\r\n", 400),
        ("1.1", b"Host: x\r\nHost: x\r\n", 400),
        ("1.1", b"Host: x\r\nContent-Type: a\r\ncontent-type: a\r\n", 400),
        ("1.1", b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n", 400),
        ("1.1", b"Host: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n", 400),
        ("1.1", b"Host: x\r\nContent-Length: " + b"0" * 1000 + b"3\r\n", None),
        ("1.1", b"Host: x\r\nContent-Length: " + b"0" * 5000 + b"\r\n", 400),
        ("1.1", b"Host: x\r\nAccept: a\r\nAccept: b\r\n", None),
        ("1.1", b"Host: x\r\nTransfer-Encoding: Chunked\r\n", None),
        ("1.0", b"Transfer-Encoding: chunked\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: chunked, chunked\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: chunked, gzip\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: gzip\r\n", 400),
        ("1.1", b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("1.1", b"Host: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
        ("1.1", b"Host: x\r\nTransfer-Encoding: other\r\n", 501),
        ("1.1", b"Host: x\r\nConnection: a, upgrade\r\nUpgrade: WebSocket\r\n", 403),
        ("1.1", b"Host: x\r\nUpgrade: websocket\r\n", None),
        ("1.1", b"Host: x\r\n" + b"X: y\r\n" * 999, None),
        ("1.1", b"Host: x\r\n" + b"X: y\r\n" * 1000, 431),
        ("1.1", b"Host: x\r\nX: " + b"y" * 8185 + b"\r\n", None),
        ("1.1", b"Host: x\r\nX: " + b"y" * 8186 + b"\r\n", 431),
    ],
)
def test_head_is_unambiguous_and_bounded(version: str, head: bytes, status: int | None) -> None:
    """Refuses what another parser could read otherwise (RFC 9112, sections 3.2, 6; C-051)."""
    parsed = Parsed(b"POST /x HTTP/%b\r\n%b\r\n" % (version.encode(), head))

    assert parsed.status == status
    assert (parsed.parser.head is None and not parsed.requests) == (status is not None)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET  / HTTP/1.1", 400),
        (b"GET /", 400),
        (b"get / HTTP/1.1", 400),
        (b"GET / HTTP/1.2", 400),
        (b"GET / http/1.1", 400),
        (b"GET x HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET x=://y HTTP/1.1", 400),
        (b"GET /\xe4 HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", None),
        (b"GET HTTP://x/y HTTP/1.1", None),
        (b"CONNECT x:80 HTTP/1.1", None),
        (b"GET /" + b"a" * 4080 + b" HTTP/1.1", None),
        (b"GET /" + b"a" * 4081 + b" HTTP/1.1", 414),
        (b"G" * 4096, 414),
    ],
)
def test_request_line_is_refused_before_the_head_has_ended(line: bytes, status: int | None) -> None:
    """Refused with the line's end; a long one without it."""
    assert Parsed(line + (b"" if len(line) == 4096 else b"\r\n")).status == status


def test_target_is_decoded() -> None:
    """The path is decoded once; the query and the raw path are not."""
    ((head, _),) = Parsed(b"GET /a%20b%2525/%C3%A4%FF?c=%20?d HTTP/1.0\r\n\r\n").requests

    assert head.line.path == "/a b%25/ä�"
    assert head.line.raw_path == b"/a%20b%2525/%C3%A4%FF"
    assert head.line.query == b"c=%20?d"


def test_names_with_an_underscore_are_dropped() -> None:
    """WSGI has one name for `a-b` and `a_b`: a client could set a field that a proxy removes."""
    ((head, _),) = Parsed(b"GET / HTTP/1.0\r\nX_A: 1\r\nx-a:\t2 \r\n\r\n").requests

    assert head.fields == [(b"x-a", b"2")]


@pytest.mark.parametrize(
    ("version", "option", "closes"),
    [
        ("1.1", b"", False),
        ("1.1", b"Connection: Close\r\n", True),
        ("1.1", b"Connection: keep-alive\r\nConnection: x, close\r\n", True),
        ("1.1", b"Connection: not-close\r\n", False),
        ("1.0", b"", True),
        ("1.0", b"Connection: Keep-Alive\r\n", False),
        ("1.0", b"Connection: keep-alive, close\r\n", True),
    ],
)
def test_connection_options(version: str, option: bytes, closes: bool) -> None:
    """RFC 9112, section 9.3."""
    data = b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version.encode(), option)
    ((head, _),) = Parsed(data).requests

    assert head.closes == closes


def test_chunks_that_come_together_are_one_piece_of_the_body() -> None:
    """Many small chunks of one client do not delay the pings of others for seconds."""
    parser = RequestParser()
    parser.feed(CHUNKED)
    pieces = []
    for data in (b"1\r\na\r\n" * 1000 + b"2\r\nb", b"c\r\n", b"1\r\nd\r\n0\r\n\r\n"):
        parser.feed(data)
        pieces.append((parser.take_body(), parser.is_complete))

    assert pieces == [(b"a" * 1000 + b"b", False), (b"c", False), (b"d", True)]


def test_held_bytes_are_counted() -> None:
    """The body that nobody has taken, and the next requests."""
    parser = RequestParser()
    parser.feed(POST + b"Content-Length: 5\r\n\r\nab")
    first = parser.n_held
    parser.feed(b"cde" + POST)
    second = parser.n_held
    body = parser.take_body()

    assert (first, second, body, parser.n_held) == (2, 5 + len(POST), b"abcde", len(POST))
    parser.begin_next()
    assert parser.n_held == 0
