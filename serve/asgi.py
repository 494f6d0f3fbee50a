"""The hot path: `/ping` and `/invocations` as one small ASGI application.

    receive body (bounded) -> serve.invocation.invoke -> send

Small bodies are answered on the event loop, large ones in a thread, so that a ping never waits
behind a prediction. Every other path belongs to the Flask application (`serve/app.py`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from container.errors import ContainerError, PayloadTooLargeError
from serve.error_reply import CONTENT_TYPE, error_body, request_id
from serve.invocation import Invocation, Servable, invoke
from serve.statuses import status_of

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Up to here an answer takes less than a millisecond; handing over to a thread costs 0.1.
_INLINE_BYTES = 2**16
_N_THREADS = 2
# Requests that were on their way when SIGTERM came are still answered for this long.
_LATE_ARRIVAL_SECONDS = 1.0
# How long a client that sends too much is listened to, so that it sees the answer.
_DISCARD_SECONDS = 2.0
_METHODS = {"/ping": ("GET", "HEAD", "POST"), "/invocations": ("POST",)}


class ClientDisconnectedError(Exception):
    """The client went away before it had sent its whole request."""


class Reply(NamedTuple):
    """What goes back to the client, and what the log says besides."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    n_bytes: int = 0
    n_rows: int = 0
    error: Exception | None = None


class InferenceApplication:
    """Answers for one model; one object in each worker process, used from its event loop only."""

    def __init__(self, servable: Servable, others: ASGIApp, *, max_payload_bytes: int) -> None:
        """Args:
        servable: What to invoke.
        others: Answers every other path.
        max_payload_bytes: Limit of a request body; 0 means none.
        """
        self._servable = servable
        self._others = others
        self._max_payload_bytes = max_payload_bytes
        self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="invocation")
        self._n_active = 0
        self._draining_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_websocket(receive, send)
            return
        path, method = scope["path"], scope["method"]
        allowed = _METHODS.get(path)
        if allowed is None:
            await self._others(scope, receive, send)
        elif method not in allowed:
            await _send(send, _method_not_allowed(path, method, allowed))
        elif path == "/ping":
            await _send(send, Reply(200 if self._draining_since is None else 503))
        else:
            self._n_active += 1
            try:
                await self._invocations(dict(scope["headers"]), receive, send)
            finally:
                self._n_active -= 1

    def begin_drain(self) -> bool:
        """Answer pings with 503 from now on; False when that was so already."""
        if self._draining_since is not None:
            return False
        self._draining_since = time.monotonic()
        return True

    async def drained(self) -> None:
        """Return when nothing is being answered and nothing late arrives any more."""
        while self._n_active or not self._is_closed():
            await asyncio.sleep(0.02)

    def _is_closed(self) -> bool:
        """Whether draining has gone on for so long that new invocations are turned away."""
        since = self._draining_since
        return since is not None and time.monotonic() - since > _LATE_ARRIVAL_SECONDS

    async def _invocations(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        identity = request_id(_text(headers, b"x-amzn-sagemaker-inference-id"))
        try:
            reply = await self._reply(headers, receive, identity)
        except ClientDisconnectedError:
            reply = Reply(499)  # as nginx has it; only the log will see it
        except ContainerError as error:
            reply = _refusal(error, identity)
        except Exception as error:  # noqa: BLE001 - the rim: whatever a model raises is a 500
            body = error_body("internal_error", "the invocation failed; see the log", identity)
            reply = Reply(500, body, _JSON, error=error)
        if reply.status != 499:
            await _send(send, reply)
        _log(reply, identity, _text(headers, b"content-type"), time.perf_counter() - started)

    async def _reply(self, headers: dict[bytes, bytes], receive: Receive, identity: str) -> Reply:
        if self._is_closed():
            body = error_body("shutting_down", "the server is shutting down; try again", identity)
            return Reply(503, body, (*_JSON, (b"retry-after", b"1"), _CLOSE))
        body = await _read_body(headers, receive, self._max_payload_bytes)
        invocation = Invocation(body, _text(headers, b"content-type"), _text(headers, b"accept"))
        if len(body) <= _INLINE_BYTES:
            answer = invoke(invocation, self._servable)
        else:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, invoke, invocation, self._servable)
        if not answer.content_type:
            return Reply(204)
        content_type = (b"content-type", answer.content_type.encode())
        return Reply(200, answer.body, (content_type,), len(body), answer.n_rows)


_JSON = ((b"content-type", CONTENT_TYPE.encode()),)
_CLOSE = (b"connection", b"close")


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole request body, refused as soon as it is known to be over the limit."""
    declared = headers.get(b"content-length", b"")
    n_declared = int(declared) if declared.isdigit() else 0
    parts: list[bytes] = []
    n_bytes = 0
    more = True
    while more and not (limit and max(n_bytes, n_declared) > limit):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        parts.append(message["body"])
        n_bytes += len(parts[-1])
        more = message["more_body"]
    if limit and max(n_bytes, n_declared) > limit:
        parts.clear()
        if more:
            await _discard(receive)
        raise PayloadTooLargeError(limit, "SAGEMAKER_MAX_PAYLOAD_IN_MB")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Read on for a moment: a client still sending when the connection closes sees a reset."""
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while (message := await receive())["type"] != "http.disconnect":
                if not message["more_body"]:
                    return
    except TimeoutError:
        return


def _text(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _refusal(error: ContainerError, identity: str) -> Reply:
    headers: Headers = [*_JSON]
    if isinstance(error, PayloadTooLargeError):
        headers.append(_CLOSE)  # what was not read would be taken for the next request
    body = error_body(error.code, error.message, identity)
    return Reply(status_of(error), body, tuple(headers), error=error)


def _method_not_allowed(path: str, method: str, allowed: tuple[str, ...]) -> Reply:
    message = f"{method} {path} is not supported; use {' or '.join(allowed)}"
    body = error_body("method_not_allowed", message, request_id(""))
    return Reply(405, body, (*_JSON, (b"allow", ", ".join(allowed).encode())))


def _log(reply: Reply, identity: str, content_type: str, seconds: float) -> None:
    facts: dict[str, object] = {
        "request_id": identity,
        "status": reply.status,
        "content_type": content_type,
        "n_bytes": reply.n_bytes,
        "n_rows": reply.n_rows,
        "duration_ms": round(seconds * 1000, 3),
    }
    if isinstance(reply.error, ContainerError):
        facts |= {"code": reply.error.code, "reason": reply.error.message}
    if reply.status >= 500 and reply.error is not None:
        logger.error("invocation", extra=facts, exc_info=reply.error)
    else:
        logger.info("invocation", extra=facts)


async def _send(send: Send, reply: Reply) -> None:
    length = (b"content-length", str(len(reply.body)).encode())
    headers = [*reply.headers, length]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1003})
