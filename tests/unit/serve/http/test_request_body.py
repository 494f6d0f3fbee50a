"""Request bodies: decompression, and the memory that counts as held."""

import asyncio
import gzip
import random
import time
import tracemalloc
from collections.abc import Callable

import pytest

from container import codecs
from container.codecs.records import Columns
from container.errors import MalformedPayloadError, OverloadedError, PayloadTooLargeError
from serve.http.asgi import Message
from serve.http.request_body import RequestBodies

EMPTY = gzip.compress(b"", mtime=0)


def bodies(*, max_bytes: int = 2**26, max_held_bytes: int = 2**26) -> RequestBodies:
    return RequestBodies(max_bytes=max_bytes, max_held_bytes=max_held_bytes, timeout_seconds=1)


def _inflate(of: RequestBodies, body: bytes, content_encoding: str) -> bytes:
    with of.inflated(body, content_encoding) as inflated:
        return inflated


def read(of: RequestBodies, *parts: bytes, headers: dict[bytes, bytes] | None = None) -> bytes:
    left = list(parts)
    received = []

    async def receive() -> Message:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def scenario() -> None:  # asyncio.run takes the memory of a result's repr
        received.append(await of.read(headers or {}, receive))

    asyncio.run(scenario())
    return received[0]


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("n_members", [1, 2, 50])
def test_gzip_of_any_length_is_undone(level: int, n_members: int) -> None:
    """Gzip members of any size end anywhere in the pieces that are read."""
    source = random.Random(7)  # noqa: S311 - no secret
    parts = [
        source.randbytes(source.choice([0, 1, 100, 50_000])) + b"1,2,3\n" * source.randrange(90_000)
        for _ in range(n_members)
    ]
    body = b"".join(gzip.compress(part, level) for part in parts)

    assert _inflate(bodies(), body, "gzip") == b"".join(parts)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (EMPTY + b"\0", "ends too early|not gzip"),
        (EMPTY + b"1,2\n", "not gzip"),
        (EMPTY * 3 + EMPTY[:9], "ends too early"),
        (gzip.compress(bytes(2**24))[:-1], "ends too early"),
    ],
    ids=["zeros-after", "text-after", "half-a-member", "no-last-byte"],
)
def test_gzip_that_does_not_end_where_the_body_does_is_refused(body: bytes, problem: str) -> None:
    """A gzip stream that is cut or damaged is refused, not read in part."""
    with pytest.raises(MalformedPayloadError, match=problem):
        _inflate(bodies(), body, "gzip")


def test_gzip_of_many_members_is_read_in_linear_time() -> None:
    """Many tiny members take linear time: copying the rest for each took 65 s for 6 MB."""
    body = EMPTY * (2**21 // len(EMPTY))
    started = time.process_time()

    assert _inflate(bodies(), body, "gzip") == b""

    assert time.process_time() - started < 2


def test_gzip_takes_little_memory_beyond_what_it_becomes() -> None:
    """The pieces are joined once."""
    body = gzip.compress(b"0.5,1.25\n" * 2**20)
    of = bodies()

    tracemalloc.start()
    inflated = _inflate(of, body, "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1.3 * len(inflated)


def test_body_in_parts_takes_little_memory_beyond_itself() -> None:
    """The pieces are freed once they are joined."""
    of = bodies()
    part = bytes(2**16)

    tracemalloc.start()
    body = read(of, *[part] * 2**7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1.3 * len(body)


def test_inflated_body_is_held_while_it_is_worked_on() -> None:
    """Decompressed bodies count against the limit of all bodies together."""
    of = bodies(max_held_bytes=3000)
    body = gzip.compress(bytes(2000))

    with (
        of.inflated(body, "gzip") as inflated,
        pytest.raises(OverloadedError, match="3000 bytes"),
        of.inflated(body, "gzip"),
    ):
        pass
    assert inflated == bytes(2000)

    with of.inflated(body, "gzip"), pytest.raises(OverloadedError):
        read(of, bytes(1001))
    assert len(read(of, bytes(3000))) == 3000  # all of it was released


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_plain_body_is_not_held_twice(encoding: str) -> None:
    """A body without an encoding counts once."""
    of = bodies(max_held_bytes=3000)
    body = read(of, bytes(2000))

    with of.inflated(body, encoding) as inflated:
        assert inflated is body
        assert len(read(of, bytes(1000))) == 1000


def _in_one(of: RequestBodies) -> None:
    read(of, bytes(3001))


def _in_parts(of: RequestBodies) -> None:
    read(of, *[bytes(100)] * 31)


def _announced(of: RequestBodies) -> None:
    read(of, b"", headers={b"content-length": b"3001", b"expect": b"100-continue"})


def _inflated(of: RequestBodies) -> None:
    _inflate(of, gzip.compress(bytes(3001)), "gzip")


@pytest.mark.parametrize("attempt", [_in_one, _in_parts, _announced, _inflated])
def test_without_a_limit_the_memory_is_one(attempt: Callable[[RequestBodies], None]) -> None:
    """Without a payload limit, a body larger than the memory is 413, not 503."""
    of = bodies(max_bytes=0, max_held_bytes=3000)

    with pytest.raises(PayloadTooLargeError, match="3000 bytes, the limit set by the memory"):
        attempt(of)
    assert len(read(of, bytes(3000))) == 3000


def test_bomb_is_given_up_at_the_limit() -> None:
    """A decompression bomb is unpacked only up to the limit."""
    body = gzip.compress(bytes(2**25))
    of = bodies(max_bytes=0, max_held_bytes=2**20)

    tracemalloc.start()
    with pytest.raises(PayloadTooLargeError):
        _inflate(of, body, "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**23


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_gzip_without_an_encoding_is_undone_where_no_format_begins_so(encoding: str) -> None:
    """Gzip without a header has the same limits; other bodies stay as they are."""
    body = gzip.compress(b"1,2\n" * 1000)

    def inflate(of: RequestBodies, body: bytes) -> bytes:
        with of.inflated(body, encoding, detects_gzip=True) as inflated:
            return inflated

    assert inflate(bodies(), body) == b"1,2\n" * 1000
    assert inflate(bodies(), b"\x1f1,2\n") == b"\x1f1,2\n"
    assert _inflate(bodies(), body, encoding) == body
    with pytest.raises(PayloadTooLargeError):
        inflate(bodies(max_bytes=3999), body)
    with pytest.raises(OverloadedError):
        inflate(bodies(max_held_bytes=3999), body)
    with pytest.raises(MalformedPayloadError, match="gzip"):
        inflate(bodies(), body[:-3])


def test_no_format_begins_as_gzip_does() -> None:
    """No format begins with gzip's magic number."""
    for name in codecs.REQUEST_TYPES:
        with pytest.raises(MalformedPayloadError):
            codecs.decoder(name)(gzip.compress(b"1,2\n"), Columns(n_features=2))
