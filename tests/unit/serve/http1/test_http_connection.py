"""A connection with a small application, over a socket or over a transport in memory."""

import asyncio
import gc
import re
import socket
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serve.http.asgi import Receive, Scope, Send
from serve.http1 import http_connection as connection_module
from serve.http1.http_connection import Connection
from tests.waiting import until

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
DATE = re.compile(rb"date: [^\r]*\r\n")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Transport(asyncio.Transport):
    """Keeps what is written, and is closed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_reading = True
        self.connection: Connection | None = None
        self._is_closing = False

    def write(self, data: Any) -> None:
        assert not self._is_closing
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def _lose(self) -> None:
        connection, self.connection = self.connection, None
        assert connection is not None
        connection.connection_lost(None)


def _connect(app: App) -> tuple[Connection, Transport]:
    owner = SimpleNamespace(connections={}, loop=asyncio.get_running_loop(), asgi=app)
    connection, transport = Connection(cast(Any, owner)), Transport()
    transport.connection = connection
    connection.connection_made(transport)
    return connection, transport


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    return body


async def _send(send: Send, body: bytes, status: int = 200) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    await _send(send, scope["path"].encode() + await _body(receive))


async def _stream(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"ab", b"", b"c"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _answer(app: App, *pieces: bytes, is_open: bool = False) -> bytes:
    """The bytes that the connection answers, without dates."""

    async def scenario() -> bytes:
        connection, transport = _connect(app)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        await until(lambda: connection.is_idle)
        assert transport.is_closing() != is_open
        return DATE.sub(b"", transport.written)

    return asyncio.run(scenario())


def test_requests_are_answered_one_after_the_other() -> None:
    """Pipelined ones in their order, whatever they take; the connection stays open."""
    n_running = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal n_running
        n_running += 1
        assert n_running == 1
        await asyncio.sleep(0.01 if scope["path"] == "/x" else 0)
        await _echo(scope, receive, send)
        n_running -= 1

    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    data = PING + chunked + b"\r\n" + PING
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"

    answers = _answer(app, data[:200], data[200:], is_open=True)

    assert answers == ok % (5, b"/ping") + ok % (5, b"/xabc") + ok % (5, b"/ping")


@pytest.mark.parametrize(
    ("version", "option", "answer", "is_open"),
    [
        ("1.1", b"", b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", True),
        ("1.0", b"", b"connection: close\r\n\r\nabc", False),
        ("1.0", b"Connection: keep-alive\r\n", b"connection: close\r\n\r\nabc", False),
    ],
)
def test_end_of_a_stream_is_marked(
    version: str, option: bytes, answer: bytes, is_open: bool
) -> None:
    """By chunks, or by closing for HTTP/1.0."""
    request = b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version.encode(), option)

    assert _answer(_stream, request, is_open=is_open) == b"HTTP/1.1 200 OK\r\n" + answer


def test_connection_option_of_the_answer() -> None:
    """HTTP/1.0 stays open if both sides say so; close is announced; the application may close."""

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"connection", b"close"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body"})

    old = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    last = PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    assert b"\r\nconnection: keep-alive\r\n\r\n/" in _answer(_echo, old, is_open=True)
    assert b"\r\nconnection: close\r\n\r\n/ping" in _answer(_echo, last + PING)
    assert _answer(closing, PING).count(b"close") == 1


def test_answers_without_a_body() -> None:
    """HEAD has the length of the body, 204 none (RFC 9110, sections 8.6, 9.3.2)."""

    async def empty(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, b"", 204)

    head = b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    streamed = _answer(_stream, head, is_open=True)

    assert _answer(_echo, head, is_open=True).endswith(b"content-length: 5\r\n\r\n")
    assert _answer(empty, PING, is_open=True) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert streamed == b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("n_declared", "n_sent", "is_open"), [(3, 3, True), (3, 2, False), (2, 3, False)]
)
def test_answer_of_another_length_than_declared_closes(
    n_declared: int, n_sent: int, is_open: bool
) -> None:
    """The client would read the next answer from the wrong byte."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"content-length", str(n_declared).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"a" * n_sent})

    assert _answer(app, PING, is_open=is_open).endswith(b"\r\n\r\n" + b"a" * n_sent)


def test_large_body_follows_its_head() -> None:
    """Written without a copy."""
    body = bytes(10**6)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, body)

    assert _answer(app, PING, is_open=True).endswith(b": 1000000\r\n\r\n" + body)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Return without an answer."""


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret")


async def _fails_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret")


async def _splits(scope: Scope, receive: Receive, send: Send) -> None:
    fields = [(b"x", b"a\r\nsecret: b")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


async def _starts_twice(scope: Scope, receive: Receive, send: Send) -> None:
    for _ in range(2):
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def _does_not_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"secret"})


@pytest.mark.parametrize(
    "app", [_nothing, _fails, _fails_after_start, _splits, _starts_twice, _does_not_start]
)
def test_application_that_fails_before_its_answer_is_500(app: App) -> None:
    """The error body, once, without the details."""
    answer = _answer(app, PING)

    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert b'"code":"internal_error"' in answer
    assert b"secret" not in answer


@pytest.mark.parametrize("fails", [False, True])
def test_answer_that_breaks_off_is_not_ended(fails: bool) -> None:
    """Closed without the last chunk: the client sees that it is incomplete (C-066)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        if fails:
            raise RuntimeError

    assert _answer(app, PING).endswith(b"\r\n\r\n2\r\nab\r\n")


def test_complete_answer_stands_where_the_application_fails_later() -> None:
    """The connection goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _echo(scope, receive, send)
        raise RuntimeError

    assert _answer(app, PING + PING, is_open=True).count(b"HTTP/1.1 200") == 2


def test_refused_request_ends_the_connection() -> None:
    """After the answers before it; what follows is not parsed."""
    answer = _answer(_echo, PING + b"GET /secret HTTP/1.1\r\n\r\n" + PING)

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
    assert b'"code":"invalid_http"' in answer
    assert b"secret" not in answer


@pytest.mark.parametrize("has_begun", [False, True])
def test_body_that_becomes_invalid_ends_its_request(has_begun: bool) -> None:
    """400, if the answer has not begun; the application is told that the client is gone."""
    last: list[str] = []
    expect = b"" if has_begun else b"Expect: 100-continue\r\n"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        last.append((await receive())["type"])
        last.append((await receive())["type"])
        await _send(send, b"never sent")

    answer = _answer(app, POST + expect + b"Transfer-Encoding: chunked\r\n\r\n", b"x\r\n")

    assert last == ["http.disconnect"] * 2
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answer)
    assert statuses == ([b"200"] if has_begun else [b"100", b"400"])
    assert b"never" not in answer


@pytest.mark.parametrize("reads", [False, True])
def test_unread_body_closes_the_connection(reads: bool) -> None:
    """It would be parsed as the next request; the answer announces the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads:
            assert (await receive())["more_body"]
        await _send(send, b"early")

    answer = _answer(app, POST + b"Content-Length: 100\r\n\r\nGET / ")

    assert answer.endswith(b"connection: close\r\n\r\nearly")


@pytest.mark.parametrize("rest", [[b"abc"], [b"ab", b"c"]], ids=["whole", "pieces"])
def test_client_that_expects_100_gets_it_when_its_body_is_read(rest: list[bytes]) -> None:
    """Once (RFC 9110, section 10.1.1)."""
    head = POST + b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"

    answer = _answer(_echo, head, *rest, is_open=True)

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    assert answer.endswith(b"/xabc")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_client_that_does_not_wait_gets_no_100(version: str) -> None:
    """Its body is there, or it speaks HTTP/1.0."""
    head = b"POST / HTTP/%b\r\nHost: x\r\nExpect: 100-continue\r\n" % version.encode()
    pieces = [head + b"Content-Length: 1\r\n\r\n", b"a"]
    sent = [b"".join(pieces)] if version == "1.1" else pieces

    answer = _answer(_echo, *sent, is_open=version == "1.1")

    assert answer.startswith(b"HTTP/1.1 200")


def test_client_that_is_refused_gets_no_100() -> None:
    """It would send its body for nothing."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, b"", 413)

    answer = _answer(app, POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413")


def test_scope_is_that_of_asgi() -> None:
    """The applications and a2wsgi read these keys."""
    scopes = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        await _send(send, b"")

    async def scenario() -> None:
        connection, transport = _connect(app)
        transport._extra = {"sockname": ("a", 1), "peername": ("b", 2, 0, 0)}  # type: ignore[attr-defined]
        connection.connection_made(transport)
        connection.data_received(b"GET /%61?b=%63 HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\r\n")
        await until(lambda: connection.is_idle)

    asyncio.run(scenario())

    assert scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a",
            "raw_path": b"/%61",
            "query_string": b"b=%63",
            "root_path": "",
            "headers": [(b"host", b"x"), (b"x-a", b"b")],
            "server": ("a", 1),
            "client": ("b", 2),
        }
    ]


def test_large_body_is_received_as_it_is_read() -> None:
    """The client waits beyond 256 KiB (backpressure), also with its next requests."""
    may_read = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await _echo(scope, receive, send)

    async def scenario() -> list[bool]:
        connection, transport = _connect(app)
        seen = []
        connection.data_received(POST + b"Content-Length: 400000\r\n\r\n" + bytes(200_000))
        seen.append(transport.is_reading)
        connection.data_received(bytes(100_000))
        seen.append(transport.is_reading)
        may_read.set()
        await until(lambda: transport.is_reading)
        connection.data_received(bytes(100_000))
        await until(lambda: connection.is_idle)
        may_read.clear()
        connection.data_received(PING)
        connection.data_received(PING * 10_000)
        seen.append(transport.is_reading)
        may_read.set()
        await until(lambda: transport.is_reading)
        await until(lambda: connection.is_idle)
        assert transport.written.count(b"HTTP/1.1 200") == 10_002
        return seen

    assert asyncio.run(scenario()) == [True, False, False]


def test_slow_reader_holds_its_answer_up() -> None:
    """`send` waits while the write buffer is full, until it is read or the client is gone."""
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            sent.append(number)

    async def scenario() -> None:
        connection, transport = _connect(app)
        connection.pause_writing()
        connection.data_received(PING)
        await until(lambda: transport.written)
        assert sent == []
        connection.resume_writing()
        connection.pause_writing()
        await until(lambda: sent == [0])
        transport.close()
        await until(lambda: connection.is_idle)

    asyncio.run(scenario())

    assert sent == [0, 1, 2]


@pytest.mark.parametrize("is_read", [False, True])
def test_application_is_told_that_its_client_is_gone(is_read: bool) -> None:
    """While it waits for the body, and after it; what it sends then is dropped."""
    types: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if is_read:
            await _body(receive)
        types.append((await receive())["type"])
        await _send(send, b"late")

    async def scenario() -> bytes:
        connection, transport = _connect(app)
        connection.data_received(POST + b"Content-Length: 1\r\n\r\n" + (b"a" if is_read else b""))
        await asyncio.sleep(0)
        transport.close()
        await until(lambda: connection.is_idle)
        return transport.written

    assert asyncio.run(scenario()) == b""
    assert types == ["http.disconnect"]


def test_application_that_does_not_end_after_its_client_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A place in a queue becomes free."""
    monkeypatch.setattr(connection_module, "_GRACE_SECONDS", 0.01)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        connection, transport = _connect(app)
        connection.data_received(PING)
        await asyncio.sleep(0)
        transport.close()
        await until(lambda: connection.is_idle)

    asyncio.run(scenario())


def test_request_of_a_worker_that_exits_has_no_answer() -> None:
    """A cancelled task did not fail: the client sees a closed connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def scenario() -> bytes:
        connection, transport = _connect(app)
        connection.data_received(PING)
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await until(transport.is_closing)
        return transport.written

    assert asyncio.run(scenario()) == b""


def test_connection_without_a_first_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a head is none, however slowly it goes on."""
    monkeypatch.setattr(connection_module, "_FIRST_REQUEST_SECONDS", 0.05)

    async def scenario() -> bytes:
        connection, transport = _connect(_echo)
        for at in range(len(PING)):
            if transport.is_closing():
                break
            connection.data_received(PING[at : at + 1])
            await asyncio.sleep(0.01)
        assert transport.is_closing()
        return transport.written

    assert asyncio.run(scenario()) == b""


def test_idle_connection_is_closed_and_a_busy_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time begins again after each answer."""
    monkeypatch.setattr(connection_module, "_FIRST_REQUEST_SECONDS", 0.02)
    monkeypatch.setattr(connection_module, "_KEEP_ALIVE_SECONDS", 0.02)
    answered: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.1)
        await _echo(scope, receive, send)
        answered.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        connection, transport = _connect(app)
        connection.data_received(PING)
        await until(transport.is_closing)
        assert transport.written.startswith(b"HTTP/1.1 200")
        assert asyncio.get_running_loop().time() - answered[0] >= 0.02

    asyncio.run(scenario())


async def _over_socket(app: App, data: bytes, *, ends: bool = True) -> bytes:
    """All that a client receives until the server closes."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    owner = SimpleNamespace(connections={}, loop=loop, asgi=app)
    with ours:
        ours.setblocking(False)
        await loop.connect_accepted_socket(lambda: Connection(cast(Any, owner)), theirs)
        await loop.sock_sendall(ours, data)
        if ends:
            ours.shutdown(socket.SHUT_WR)
        received = b""
        while piece := await loop.sock_recv(ours, 65536):
            received += piece
    await until(lambda: not owner.connections)
    return received


@pytest.mark.parametrize(
    ("data", "n_answers"),
    [
        (PING, 1),
        (PING * 3, 3),
        (PING + PING[:20], 1),
        (PING + POST + b"Content-Length: 9\r\n\r\na", 1),
        (PING[:20], 0),
        (POST + b"Content-Length: 9\r\n\r\na", 0),
        (b"", 0),
    ],
)
def test_client_that_closes_its_side_gets_its_answers(data: bytes, n_answers: int) -> None:
    """To all whole requests; nobody waits for the rest of half a one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        if (await receive())["type"] == "http.request":
            await _send(send, b"")

    received = asyncio.run(_over_socket(app, data))

    assert received.count(b"HTTP/1.1 200") == n_answers


def test_answer_arrives_before_the_connection_is_closed() -> None:
    """Larger than the buffers of the sockets."""
    body = bytes(10**7)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, body)

    received = asyncio.run(_over_socket(app, PING))

    assert received.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("app", [_echo, _stream, _fails, _nothing])
@pytest.mark.parametrize("data", [b"", PING[:9], PING, PING * 2, PING + b"x\r\n"])
def test_closed_connection_is_freed_without_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch, app: App, data: bytes
) -> None:
    """A closed connection has no reference cycles, which would stay until a full collection."""
    # pytest keeps what is logged, with the frames of a traceback.
    monkeypatch.setattr(connection_module.logger, "exception", lambda message: None)

    async def scenario() -> weakref.ref[Connection]:
        connection, transport = _connect(app)
        if data:
            connection.data_received(data)
        await until(lambda: connection.is_idle)
        transport.close()
        await until(lambda: transport.connection is None)
        return weakref.ref(connection)

    gc.disable()
    try:
        assert asyncio.run(scenario())() is None
    finally:
        gc.enable()


def test_connection_is_listed_while_it_is_open() -> None:
    """For draining, and for the limit of connections."""

    async def scenario() -> None:
        connection, transport = _connect(_echo)
        owner = connection._owner
        assert list(owner.connections) == [connection]
        transport.close()
        await until(lambda: not owner.connections)

    asyncio.run(scenario())


def test_descriptor_is_closed_in_a_child() -> None:
    """The client would otherwise wait for the exit of the child, too."""

    async def scenario() -> None:
        connection, transport = _connect(_echo)
        ours, theirs = socket.socketpair()
        transport._extra = {"socket": theirs}  # type: ignore[attr-defined]
        with ours:
            connection.close_in_child()
            assert ours.recv(1) == b""
            connection.close_in_child()  # closed already
            theirs.detach()

    asyncio.run(scenario())
