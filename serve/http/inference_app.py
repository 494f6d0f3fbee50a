"""The hot path: pings and invocations, as an ASGI application.

    receive body (bounded) -> servable.invoke, inline or in a thread -> send or stream

The latency heuristic (`serve/runtime/latency.py`) chooses: invocations of up to 2 ms run inline on
the event loop, all others in a thread pool with a bounded queue, so that a ping hardly waits behind
a prediction. The Flask application (`serve/http/admin_app.py`) answers all other paths.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from container.errors import ContainerError, InvocationTimeoutError, OutOfMemoryError
from serve.http import paths, responses
from serve.http.access_log import Observation, Observer
from serve.http.asgi import ASGIApp, Receive, Scope, Send
from serve.http.error_body import request_id_of
from serve.http.request_body import ClientDisconnectedError, RequestBodies, is_gzip
from serve.http.responses import Pieces, Refusal, Reply
from serve.http.whole_bodies import WholeBodies
from serve.invocation import Answer, Invocation, Servable
from serve.leases import Lease, Models
from serve.runtime.thread_pool import ThreadPool

# Requests that arrive within this time after SIGTERM are still answered.
_LATE_ARRIVAL_SECONDS = 1.0
_CLIENT_DISCONNECTED = 499  # as in nginx; for the log and the metrics only
_PING_METHODS = ("GET", "HEAD", "POST")
_INVOCATION_METHODS = ("POST",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one worker; requests beyond them are refused (backpressure)."""

    max_payload_bytes: int  # of one body; 0 means no limit
    max_held_bytes: int  # of all bodies in memory
    timeout_seconds: float  # for receiving a body, and again for the answer
    n_threads: int  # of the thread pool, for thread-safe models
    n_waiting: int  # of the queue before the threads


class InferenceApplication:
    """Answers pings and invocations; one object a worker, used on its event loop only."""

    def __init__(
        self,
        models: Models,
        others: ASGIApp,
        *,
        limits: Limits,
        observer: Observer,
        retire: Callable[[], None],
        refusal: Refusal = responses.refusal,
    ) -> None:
        """Args:
        models: The models to invoke.
        others: The application for all other paths.
        limits: Limits of this worker.
        observer: Logs and counts every invocation.
        retire: Called when this process should be replaced.
        refusal: Creates the reply to an invocation that an error ended.
        """
        self._models = models
        self._others = WholeBodies(others, limits.max_held_bytes, limits.timeout_seconds, refusal)
        self._timeout_seconds = limits.timeout_seconds
        self._observer = observer
        self._refusal = refusal
        self._bodies = RequestBodies(
            max_bytes=limits.max_payload_bytes,
            max_held_bytes=limits.max_held_bytes,
            timeout_seconds=limits.timeout_seconds,
        )
        self._threads = ThreadPool(
            n_threads=limits.n_threads if models.is_thread_safe else 1,
            n_waiting=limits.n_waiting,
            on_overdue=retire,
        )
        self._n_active = 0
        self._draining_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path[:1] != "/" or path[1:2] == "/":
            scope = paths.normalized(scope)
            path = scope["path"]
        lease = None if path == "/ping" else self._models.lease(scope)
        allowed = _INVOCATION_METHODS if lease else _PING_METHODS
        if lease is None and path != "/ping":
            self._n_active += 1
            try:
                await self._others(scope, receive, send)
            finally:
                self._n_active -= 1
        elif method not in allowed:
            identity = request_id_of(_headers(scope))
            reply = responses.method_not_allowed(path, method, allowed, identity, self._refusal)
            await responses.send_whole(
                send, reply._replace(body=b"") if method == "HEAD" else reply
            )
        elif lease is None:
            status = 200 if self._draining_since is None else 503
            await responses.send_whole(send, Reply(status))
        else:
            self._n_active += 1
            try:
                await self._invocations(lease, _headers(scope), receive, send)
            finally:
                self._n_active -= 1
                lease.release()

    def begin_drain(self) -> bool:
        """End readiness: answer pings with 503 from now on.

        Returns:
            False if draining had begun already.
        """
        if self._draining_since is not None:
            return False
        self._draining_since = time.monotonic()
        return True

    async def drained(self) -> None:
        """Wait until no request is in flight and late arrivals are refused."""
        while self._n_active or not self._is_closed():
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Flush the access log; called at the end of the process, with no request in flight."""
        self._observer.flush()

    def _is_closed(self) -> bool:
        """True if draining has lasted so long that new invocations are refused."""
        since = self._draining_since
        return since is not None and time.monotonic() - since > _LATE_ARRIVAL_SECONDS

    async def _invocations(
        self, lease: Lease, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        seen = Observation(request_id_of(headers), _text(headers, b"content-type"))
        try:
            reply = await self._reply(lease, seen, headers, receive)
            if reply.pieces is None:
                self._bodies.keep(reply.body)
                try:
                    await responses.send_whole(send, reply)
                finally:
                    self._bodies.release(reply.body)
            else:
                await self._stream(lease, seen, reply, reply.pieces, receive, send)
        except ClientDisconnectedError:
            seen.status = _CLIENT_DISCONNECTED
        except asyncio.CancelledError:
            seen.status = _CLIENT_DISCONNECTED
            raise
        finally:
            self._observer.record(seen)

    async def _reply(
        self, lease: Lease, seen: Observation, headers: dict[bytes, bytes], receive: Receive
    ) -> Reply:
        body: bytes | None = None
        try:
            if self._is_closed():
                return seen.replied(responses.shutting_down(seen.request_id, self._refusal))
            body = await self._bodies.read(headers, receive)
            seen.n_bytes = len(body)
            try:
                answer = await self._answer(lease, seen, body, headers)
            finally:
                self._bodies.release(body)
        except ContainerError as error:
            reply = self._refusal(error, seen.request_id)
            return seen.failed(error, reply if body is not None else responses.closing(reply))
        except ClientDisconnectedError:
            raise
        except MemoryError as error:
            full = OutOfMemoryError("the invocation needs more memory than there is")
            return seen.failed(error, self._refusal(full, seen.request_id))
        except Exception as error:  # noqa: BLE001 - the boundary: any exception of a model is a 500
            unknown = responses.InternalError("the invocation failed; see the log")
            return seen.failed(error, self._refusal(unknown, seen.request_id))
        seen.n_rows, seen.stages = answer.n_rows, answer.stages
        return seen.replied(responses.of_answer(answer))

    async def _answer(
        self, lease: Lease, seen: Observation, body: bytes, headers: dict[bytes, bytes]
    ) -> Answer:
        accept = _text(headers, b"accept")
        invocation = Invocation(body, seen.content_type, accept, headers, seen.request_id)
        is_plain = b"content-encoding" not in headers and not is_gzip(body)
        servable = lease.acquire_nowait(seen)
        if (
            servable is not None
            and is_plain
            and servable.may_run_inline(invocation)
            and self._threads.has_time()
        ):
            return servable.invoke(invocation)
        async with self._time_limit():
            if servable is None:
                servable = await lease.acquire(seen)
            if is_plain and servable.may_run_inline(invocation):
                answer = await self._inline(seen, servable, invocation)
                if answer is not None:
                    return answer
            return await self._in_thread(lease, seen, servable, invocation)

    async def _inline(
        self, seen: Observation, servable: Servable, invocation: Invocation
    ) -> Answer | None:
        """Answer on the event loop, in a later iteration if this one has taken its time.

        Returns:
            None if the model has been slower meanwhile than the heuristic expected.
        """
        queued = time.perf_counter()

        def work() -> Answer | None:
            if not servable.may_run_inline(invocation):
                return None
            seen.queue_seconds = time.perf_counter() - queued
            return servable.invoke(invocation)

        return await self._threads.run_inline(work)

    async def _in_thread(
        self, lease: Lease, seen: Observation, servable: Servable, invocation: Invocation
    ) -> Answer:
        queued = time.perf_counter()

        def work() -> Answer:
            seen.queue_seconds = time.perf_counter() - queued
            encoding = _text(invocation.headers, b"content-encoding").lower()
            detects_gzip = not servable.has_own_formats
            with self._bodies.inflated(
                invocation.body, encoding, detects_gzip=detects_gzip
            ) as inflated:
                return servable.invoke(invocation._replace(body=inflated))

        lease.retain()
        seconds = None if servable.limits_itself else self._timeout_seconds
        return await self._threads.run(work, seconds=seconds, after=lease.release)

    @asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():  # raised by the model itself
                raise
            raise InvocationTimeoutError(
                self._timeout_seconds, "SAGEMAKER_MODEL_SERVER_TIMEOUT"
            ) from error

    async def _stream(
        self,
        lease: Lease,
        seen: Observation,
        reply: Reply,
        pieces: Pieces,
        receive: Receive,
        send: Send,
    ) -> None:
        seconds = responses.STREAM_SECONDS + self._timeout_seconds

        def in_thread(pump: Callable[[], None]) -> Awaitable[None]:
            lease.retain()
            return self._threads.run(pump, has_begun=True, seconds=seconds, after=lease.release)

        try:
            async with asyncio.timeout(seconds):
                await responses.stream(send, receive, reply, pieces, in_thread)
        except Exception as error:
            seen.error = error
            raise


def _headers(scope: Scope) -> dict[bytes, bytes]:
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(lines)
    if len(headers) < len(lines):  # RFC 9110 section 5.3: several lines of a list are one list
        headers |= {b"accept": b", ".join(value for name, value in lines if name == b"accept")}
    return headers


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")
