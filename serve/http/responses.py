"""Responses: whole, streamed, or errors in their common form."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple

from container.errors import ContainerError, OverloadedError
from serve.http.asgi import Message, Receive, Send
from serve.http.error_body import CONTENT_TYPE, error_body
from serve.http.statuses import status_of
from serve.invocation import Answer

Headers = tuple[tuple[bytes, bytes], ...]
Pieces = Generator[bytes, None, None]
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]

JSON: Headers = ((b"content-type", CONTENT_TYPE.encode()),)
_CLOSE = (b"connection", b"close")
_RETRY = (b"retry-after", b"1")
# The platform gives a streamed reply 8 minutes (C-065).
STREAM_SECONDS = 8 * 60.0
_START, _BODY = "http.response.start", "http.response.body"


class Reply(NamedTuple):
    """Status, body and headers; `pieces`, if any, are streamed instead of the body."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    pieces: Pieces | None = None


Refusal = Callable[[ContainerError, str], Reply]
"""Creates the reply to a request that an error ended, as `refusal` does."""


class InternalError(ContainerError):
    """An unexpected error: the details are for the log, not for the client."""

    code = "internal_error"


class _ShuttingDownError(ContainerError):
    code, status = "shutting_down", 503


class _MethodNotAllowedError(ContainerError):
    code, status = "method_not_allowed", 405


def of_answer(answer: Answer) -> Reply:
    """Create the reply with a model's answer."""
    headers: list[tuple[bytes, bytes]] = []
    if answer.content_type:
        headers.append((b"content-type", answer.content_type.encode("latin-1", "replace")))
    for name, value in answer.headers:
        headers.append((name.lower().encode(), value.encode("latin-1", "replace")))
    if isinstance(answer.body, bytes):
        return Reply(answer.status, answer.body, tuple(headers))
    return Reply(answer.status, headers=tuple(headers), pieces=answer.body)


def refusal(error: ContainerError, identity: str) -> Reply:
    """Create the reply to a request that an error ended."""
    headers = JSON
    if isinstance(error, OverloadedError):
        headers = (*headers, _RETRY)
    return Reply(status_of(error), error_body(error.code, error.message, identity), headers)


def closing(reply: Reply) -> Reply:
    """Close the connection after the reply to a request that was not read to its end.

    The rest of the body would be parsed as the next request.
    """
    return reply._replace(headers=(*reply.headers, _CLOSE))


def shutting_down(identity: str, refuse: Refusal = refusal) -> Reply:
    """Create the reply to a request that arrived after SIGTERM."""
    reply = refuse(_ShuttingDownError("the server is shutting down; try again"), identity)
    return closing(reply._replace(headers=(*reply.headers, _RETRY)))


def method_not_allowed(
    path: str, method: str, allowed: tuple[str, ...], identity: str, refuse: Refusal = refusal
) -> Reply:
    """Create the reply to a wrong method for a ping or an invocation."""
    message = f"{method} {path} is not supported; use {' or '.join(allowed)}"
    reply = refuse(_MethodNotAllowedError(message), identity)
    return reply._replace(headers=(*reply.headers, (b"allow", ", ".join(allowed).encode())))


async def send_whole(send: Send, reply: Reply) -> None:
    """Send a reply whose body is bytes."""
    length = (b"content-length", str(len(reply.body)).encode())
    headers = [*reply.headers, length]
    await send({"type": _START, "status": reply.status, "headers": headers})
    await send({"type": _BODY, "body": reply.body})


async def stream(
    send: Send, receive: Receive, reply: Reply, pieces: Pieces, in_thread: InThread
) -> None:
    """Send pieces as they are created, each before the next one is requested.

    An error of the generator is raised after the pieces before it were sent. The connection
    is then closed without the last chunk, so that the client sees that the answer is incomplete
    (C-066).

    Args:
        send: Of ASGI.
        receive: Of ASGI; watched for the disconnection of the client.
        reply: Status and headers.
        pieces: The body; closed in the thread that runs it.
        in_thread: Runs a function in a thread and waits for it.
    Raises:
        TimeoutError: the stream took longer than `STREAM_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STREAM_SECONDS
    disconnected = asyncio.create_task(_disconnected(receive))

    def send_from_thread(message: Message) -> None:
        asyncio.run_coroutine_threadsafe(_send(send, message), loop).result()

    def pump() -> None:
        with contextlib.closing(pieces):
            for piece in pieces:
                if disconnected.done():
                    return
                if loop.time() > deadline:
                    raise TimeoutError(f"the stream took longer than {STREAM_SECONDS:g} s")
                if piece:
                    send_from_thread({"type": _BODY, "body": piece, "more_body": True})

    await send({"type": _START, "status": reply.status, "headers": list(reply.headers)})
    try:
        await in_thread(pump)
        await send({"type": _BODY, "body": b""})
    finally:
        disconnected.cancel()


async def _send(send: Send, message: Message) -> None:
    await send(message)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
