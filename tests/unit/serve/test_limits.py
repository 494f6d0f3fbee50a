"""Limits of a worker: concurrency, time, and the size of bodies."""

import asyncio
import contextlib
import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve.http import inference_app
from serve.http.request_metrics import Metrics
from serve.invocation import Answer, Invocation
from serve.leases import OneModel
from tests.unit.serve.conftest import Client, ModelDirectory, Reply, Server
from tests.waiting import PATIENCE_SECONDS, until

CSV = {"Content-Type": "text/csv"}
GZIP = CSV | {"Content-Encoding": "gzip"}


class BlockingServable:
    """Answers when `may_answer` is set; records the thread of each call."""

    is_thread_safe = True
    has_own_formats = True
    limits_itself = False

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.threads: list[int] = []

    def may_run_inline(self, invocation: Invocation) -> bool:
        return False

    def invoke(self, invocation: Invocation) -> Answer:
        self.threads.append(threading.get_ident())
        assert self.may_answer.wait(PATIENCE_SECONDS)
        return Answer(invocation.body, "text/plain")


@pytest.fixture
def blocking() -> Iterator[BlockingServable]:
    servable = BlockingServable()
    yield servable
    servable.may_answer.set()


async def _settled() -> None:
    """Let the event loop run until every request waits for another thread or for its turn."""
    for _ in range(200):
        await asyncio.sleep(0)


def _all_at_once(client: Client, n: int, then: Callable[[], None]) -> list[Reply]:
    async def scenario() -> list[Reply]:
        sent = [asyncio.create_task(client.send("POST", "/invocations", b"x")) for _ in range(n)]
        await _settled()
        then()
        return await asyncio.gather(*sent)

    return asyncio.run(scenario())


def test_more_than_may_wait_is_refused_at_once(server: Server, blocking: BlockingServable) -> None:
    """With two threads and a queue of two, four of ten are answered and six refused."""
    client = server.client(blocking)

    replies = _all_at_once(client, 10, blocking.may_answer.set)

    assert sorted(reply.status for reply in replies) == [200] * 4 + [503] * 6
    refused = [reply for reply in replies if reply.status == 503]
    assert all(reply.headers["retry-after"] == "1" for reply in refused)
    assert b"BYOA_MAX_WAITING" in refused[0].body


def test_places_are_free_again_after_the_work(server: Server, blocking: BlockingServable) -> None:
    """A worker that was full accepts work again."""
    client = server.client(blocking)
    _all_at_once(client, 10, blocking.may_answer.set)

    replies = _all_at_once(client, 4, blocking.may_answer.set)

    assert [reply.status for reply in replies] == [200] * 4


def test_what_is_not_thread_safe_is_called_from_one_thread(
    server: Server, blocking: BlockingServable
) -> None:
    """Models that are not thread-safe have one thread, whatever the setting."""
    blocking.is_thread_safe = False
    client = server.client(blocking)

    _all_at_once(client, 3, blocking.may_answer.set)

    assert len(blocking.threads) == 3
    assert len(set(blocking.threads)) == 1


def test_ping_is_answered_while_all_threads_are_busy(
    server: Server, blocking: BlockingServable
) -> None:
    """A ping does not wait for a prediction (C-045)."""
    client = server.client(blocking)

    async def scenario() -> tuple[int, float]:
        sent = [asyncio.create_task(client.send("POST", "/invocations", b"x")) for _ in range(4)]
        await until(lambda: len(blocking.threads) == 2)
        started = time.monotonic()
        ping = await client.send("GET", "/ping")
        seconds = time.monotonic() - started
        blocking.may_answer.set()
        await asyncio.gather(*sent)
        return ping.status, seconds

    status, seconds = asyncio.run(scenario())

    assert status == 200
    assert seconds < 5  # the predictions wait for the test


def test_invocation_over_the_time_limit_is_given_up_and_the_process_replaced(
    server: Server, blocking: BlockingServable
) -> None:
    """A worker with a thread that hangs asks to be replaced."""
    client = server.client(blocking, timeout_seconds=0.2)

    async def scenario() -> Reply:
        reply = await client.send("POST", "/invocations", b"x")
        await until(lambda: server.n_retired)
        return reply

    reply = asyncio.run(scenario())

    assert reply.status == 503
    assert b"longer than 0.2 s" in reply.body
    assert server.n_retired == 1


@pytest.mark.parametrize("ends", [True, False])
def test_invocation_whose_client_has_left_is_still_watched(
    server: Server, blocking: BlockingServable, metrics: Metrics, ends: bool
) -> None:
    """An abandoned invocation that hangs has its worker replaced, and delays no others (C-061)."""
    client = server.client(blocking, timeout_seconds=0.3)

    async def scenario() -> int:
        left = asyncio.create_task(client.send("POST", "/invocations", b"x"))
        await until(lambda: blocking.threads)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        if ends:
            blocking.may_answer.set()
        other = asyncio.create_task(client.send("POST", "/invocations", b"x"))
        await until(lambda: len(blocking.threads) == 2)
        n_threads = len(set(blocking.threads))
        await asyncio.wait([other], timeout=0.4)
        await until(lambda: ends or server.n_retired)
        return n_threads

    n_threads = asyncio.run(scenario())

    assert ends or n_threads == 2
    assert (server.n_retired > 0) != ends
    assert b'byoa_invocations_total{status="499"} 1.0' in metrics.text()


def test_lease_lasts_as_long_as_its_thread(server: Server, blocking: BlockingServable) -> None:
    """A thread keeps its lease until it ends, also after a timeout (C-085)."""
    holders = ["the request"]

    class Watched(OneModel):
        def retain(self) -> None:
            holders.append("the thread")

        def release(self) -> None:
            holders.pop(0)

    client = server.client(blocking)
    client.app._models = Watched(blocking)

    async def scenario() -> list[str]:
        left = asyncio.create_task(client.send("POST", "/invocations", b"x"))
        await until(lambda: blocking.threads)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        held = list(holders)
        blocking.may_answer.set()
        await until(lambda: not holders)
        return held

    assert asyncio.run(scenario()) == ["the thread"]
    assert holders == []


def test_draining_waits_for_every_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draining waits for a model that is being loaded (C-062)."""
    monkeypatch.setattr(inference_app, "_LATE_ARRIVAL_SECONDS", 0.0)
    client = server.client()
    may_end = asyncio.Event()

    async def slow(scope: object, receive: object, send: Callable[..., Any]) -> None:
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client.app._others = slow

    async def scenario() -> bool:
        loading = asyncio.create_task(client.send("POST", "/models"))
        await asyncio.sleep(0)
        client.app.begin_drain()
        drained = asyncio.create_task(client.app.drained())
        await until(client.app._is_closed)  # what is late is not waited for any more
        await asyncio.sleep(0.04)  # `drained` looks every 0.02 s
        was_drained = drained.done()
        may_end.set()
        await asyncio.gather(loading, drained)
        return was_drained

    assert not asyncio.run(scenario())


def test_a_models_own_timeout_error_is_its_own(server: Server) -> None:
    """A TimeoutError of the model is a failed invocation; the process stays."""

    class Failing(BlockingServable):
        def invoke(self, invocation: Invocation) -> Answer:
            raise TimeoutError("a database, say")

    reply = server.client(Failing()).request("POST", "/invocations", b"x")

    assert reply.status == 500
    assert server.n_retired == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
def test_what_would_end_a_thread_ends_the_request_only(
    server: Server, error: BaseException
) -> None:
    """A model that calls sys.exit fails one invocation; the worker stays."""

    class Exiting(BlockingServable):
        def invoke(self, invocation: Invocation) -> Answer:
            raise error

    client = server.client(Exiting())

    assert client.request("POST", "/invocations", b"x").status == 500
    assert client.request("POST", "/invocations", b"x").status == 500


def test_bodies_are_bounded_together(server: Server, blocking: BlockingServable) -> None:
    """Bodies within the limit of one are refused beyond the limit of all."""
    client = server.client(blocking, max_held_bytes=2)

    replies = _all_at_once(client, 3, blocking.may_answer.set)

    assert sorted(reply.status for reply in replies) == [200, 200, 503]
    assert client.request("POST", "/invocations", b"xx").status == 200


def test_body_that_does_not_arrive_is_given_up(server: Server) -> None:
    """A body that arrives too slowly is refused."""
    client = server.client(timeout_seconds=0.1)

    async def scenario() -> list[int]:
        statuses: list[int] = []
        first = True

        async def receive() -> dict[str, object]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"1", "more_body": True}
            await asyncio.sleep(10)
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            if "status" in message:
                statuses.append(int(str(message["status"])))

        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
        await client.app(scope, receive, send)  # type: ignore[arg-type]
        return statuses

    assert asyncio.run(scenario()) == [408]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_body_is_decompressed(client: Client, encoding: str) -> None:
    """Decompresses Content-Encoding: gzip, also of several members."""
    headers = CSV | {"Content-Encoding": encoding}
    body = gzip.compress(b"1,2\n") + gzip.compress(b"3,4\n")

    assert client.request("POST", "/invocations", body, headers).body == b"3.0\n7.0\n"


def test_gzip_body_that_does_not_say_so_is_decompressed(client: Client, server: Server) -> None:
    """Detects gzip without a header, with the same limits."""
    small = gzip.compress(b"1,2\n")
    large = gzip.compress(b"1,2\n" * 1000)

    assert client.request("POST", "/invocations", small, CSV).body == b"3.0\n"
    assert client.request("POST", "/invocations", large, CSV).status == 413
    unlimited = server.client(max_held_bytes=2000, max_payload_bytes=0)
    assert unlimited.request("POST", "/invocations", large, CSV).status == 413
    assert client.request("POST", "/invocations", small[:-2], CSV).status == 400


def test_gzip_body_of_a_script_is_its_own() -> None:
    """User code that reads the body gets the bytes as sent."""
    seen: list[bytes] = []

    class Script:
        is_thread_safe = False
        has_own_formats = True
        limits_itself = False

        def may_run_inline(self, invocation: Invocation) -> bool:
            return False

        def invoke(self, invocation: Invocation) -> Answer:
            seen.append(invocation.body)
            return Answer(b"")

    client = Server(Script(), Metrics(2)).client()
    body = gzip.compress(b"1,2\n")
    client.request("POST", "/invocations", body, {"Content-Type": "application/octet-stream"})
    client.request("POST", "/invocations", body, GZIP)

    assert seen == [body, b"1,2\n"]


def test_gzip_body_is_decompressed_for_a_script_without_input_fn(
    model_directory: ModelDirectory,
) -> None:
    """The default `input_fn` detects gzip, too."""
    script = "def model_fn(d): return 1\ndef predict_fn(d, m): return d"
    client = Server(model_directory.load(script), Metrics(2)).client()

    reply = client.request("POST", "/invocations", gzip.compress(b"1,2\n"), CSV)

    assert (reply.status, reply.body) == (200, b"[[1.0,2.0]]")


def test_identity_encoding_is_no_encoding(client: Client) -> None:
    """The encoding identity is accepted."""
    headers = CSV | {"Content-Encoding": "identity"}

    assert client.request("POST", "/invocations", b"1,2\n", headers).body == b"3.0\n"


def test_gzip_bomb_is_refused_under_the_limit(server: Server) -> None:
    """A decompression bomb is unpacked only up to the limit."""
    client = server.client(max_payload_bytes=2**21, max_held_bytes=2**22)
    bomb = zlib.compressobj(9, wbits=31)
    body = b"".join([*(bomb.compress(b"1" * 2**20) for _ in range(64)), bomb.flush()])

    reply = client.request("POST", "/invocations", body, GZIP)

    assert len(body) < 2**21
    assert reply.status == 413


@pytest.mark.parametrize(
    "body",
    [b"1,2\n", gzip.compress(b"1,2\n" * 50, mtime=0)[:-9], b"\x1f\x8b" + b"\x00" * 20, b"\x1f"],
    ids=["no-gzip", "truncated", "wrong-header", "one-byte"],
)
def test_broken_gzip_is_400(client: Client, body: bytes) -> None:
    """A damaged gzip body is refused."""
    reply = client.request("POST", "/invocations", body, GZIP)

    assert reply.status == 400
    assert b"gzip" in reply.body


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "nonsense"])
def test_other_encodings_are_415(client: Client, encoding: str) -> None:
    """The error names the accepted encodings."""
    headers = CSV | {"Content-Encoding": encoding}
    reply = client.request("POST", "/invocations", b"1,2\n", headers)

    assert reply.status == 415
    assert b"send gzip" in reply.body


class StreamingServable:
    """Streams three pieces, or those of the test."""

    is_thread_safe = False
    has_own_formats = True
    limits_itself = False

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        self._pieces = pieces

    def may_run_inline(self, invocation: Invocation) -> bool:
        return False

    def invoke(self, invocation: Invocation) -> Answer:
        return Answer(self._pieces(), "text/plain")


def test_stream_sends_each_piece_before_the_next_is_made(server: Server) -> None:
    """The first piece is sent before the last is computed (C-065)."""
    made: list[int] = []
    sent: list[int] = []

    def pieces() -> Iterator[bytes]:
        for index in range(3):
            made.append(index)
            yield b"%d" % index

    client = server.client(StreamingServable(pieces))
    client.on_send = lambda message: sent.append(len(made)) if message.get("body") else None

    reply = client.request("POST", "/invocations", b"x")

    assert reply.body == b"012"
    assert "content-length" not in reply.headers
    assert sent == [1, 2, 3]


def test_stream_that_breaks_is_raised_so_that_the_connection_is_cut(server: Server) -> None:
    """A stream that fails is visibly incomplete (C-066)."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("broken")

    client = server.client(StreamingServable(pieces))

    with pytest.raises(ValueError, match="broken"):
        client.request("POST", "/invocations", b"x")


def test_stream_ends_when_the_client_has_gone(server: Server) -> None:
    """An endless stream ends when its client disconnects."""
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        while True:
            made.append(1)
            yield b"x"

    client = server.client(StreamingServable(pieces))
    client.leaves_after_its_body = True

    client.request("POST", "/invocations", b"x")

    assert len(made) < 5000


def test_answers_that_are_not_read_count_as_held(
    server: Server, blocking: BlockingServable
) -> None:
    """Unread answers count against the limit of all bodies."""
    client = server.client(blocking, max_held_bytes=1000)
    blocking.may_answer.set()
    is_read = asyncio.Event()

    async def scenario() -> tuple[Reply, Reply]:
        is_sent = asyncio.Event()

        async def slowly(message: Any) -> None:
            is_sent.set()
            await is_read.wait()

        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
        slow = asyncio.create_task(client.app(scope, _body_of(900), slowly))
        await is_sent.wait()
        refused = await client.send("POST", "/invocations", b"x" * 200)
        is_read.set()
        await slow
        return refused, await client.send("POST", "/invocations", b"x" * 200)

    refused, answered = asyncio.run(scenario())

    assert (refused.status, answered.status) == (503, 200)


def _body_of(n_bytes: int) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * n_bytes, "more_body": False}

    return receive
