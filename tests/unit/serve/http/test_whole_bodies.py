"""Bodies for Flask: received before a thread is taken."""

import asyncio
from typing import Any

import pytest

from serve.http import responses
from serve.http.asgi import Message
from serve.http.whole_bodies import WholeBodies


class Application:
    """Answers with the body that it received."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        await responses.send_whole(send, responses.Reply(200))
        assert (await receive())["type"] == "http.disconnect"


async def _ask(
    app: WholeBodies, messages: list[Message], headers: dict[bytes, bytes] | None = None
) -> list[Message]:
    sent: list[Message] = []
    left = [*messages, {"type": "http.disconnect"}]

    async def receive() -> Message:
        message = left.pop(0)
        if message["type"] == "wait":
            await asyncio.Event().wait()
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": list((headers or {}).items())}
    await app(scope, receive, send)
    return sent


def _part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture
def inner() -> Application:
    return Application()


@pytest.fixture
def app(inner: Application) -> WholeBodies:
    return WholeBodies(inner, 2**22, 0.05, responses.refusal)


def test_application_gets_the_whole_body(app: WholeBodies, inner: Application) -> None:
    """The body comes in one piece, and after it the disconnection of the client."""
    sent = asyncio.run(_ask(app, [_part(b"{"), _part(b""), _part(b"}", more=False)]))

    assert inner.bodies == [b"{}"]
    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        ([_part(b"{"), {"type": "wait"}], {}, 408),
        ([_part(b"1" * 2**20), _part(b"1", more=False)], {}, 413),
        ([_part(b"1")], {b"content-length": b"1048577"}, 413),
    ],
    ids=["slow", "large", "declared-large"],
)
def test_body_that_does_not_come_or_is_too_large_takes_no_thread(
    app: WholeBodies,
    inner: Application,
    messages: list[Message],
    headers: dict[bytes, bytes],
    status: int,
) -> None:
    """The connection closes: the rest of the body may still arrive."""
    sent = asyncio.run(_ask(app, messages, headers))

    assert sent[0]["status"] == status
    assert (b"connection", b"close") in sent[0]["headers"]
    assert inner.bodies == []


def test_client_that_leaves_takes_no_thread(app: WholeBodies, inner: Application) -> None:
    """A request whose client disconnects is dropped."""
    assert asyncio.run(_ask(app, [_part(b"{")])) == []
    assert inner.bodies == []
