"""A client connection: requests in their order, with time limits for slow, silent or lost clients.

- A connection without a first request is closed after 30 s, an idle one after 75 s.
- A client that closes its sending side after its requests gets all answers.
- A client that reads nothing of its answer is disconnected (`serve/http1/write_flow.py`).
- A request may be answered before its body has arrived; the connection is then closed.
- The application has 3 s to end after its client has disconnected, and is then cancelled.
- A closed connection has no reference cycle, and is freed at once. The garbage collector would free
  it minutes later. Until then its objects lie between the large bodies of other requests and
  fragment the heap.
"""

import asyncio
import contextlib
import logging
import os
from http import HTTPStatus
from typing import Protocol, cast

from serve.http.asgi import ASGIApp, Scope
from serve.http1.exchange import Exchange
from serve.http1.request_head import InvalidRequestError, RequestHead
from serve.http1.request_parser import RequestParser
from serve.http1.response_head import refusal
from serve.http1.write_flow import WriteFlow

logger = logging.getLogger(__name__)

_FIRST_REQUEST_SECONDS = 30.0
_KEEP_ALIVE_SECONDS = 75.0
# From the disconnection of a client to the cancellation of its request.
_GRACE_SECONDS = 3.0
# Of bodies and requests that wait in memory. The client waits beyond (backpressure).
_MAX_HELD_BYTES = 2**18
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class ConnectionOwner(Protocol):
    """The worker of a connection."""

    connections: "dict[Connection, None]"  # all open ones, the oldest first
    loop: asyncio.AbstractEventLoop

    @property
    def asgi(self) -> ASGIApp:
        """The application that answers."""


class Connection(asyncio.Protocol):
    """One client connection, listed in `owner.connections` while it is open."""

    transport: asyncio.Transport

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._loop = owner.loop
        self._parser = RequestParser()
        self._exchange: Exchange | None = None  # the request that is being answered
        self._task: asyncio.Task[None] | None = None  # of the exchange
        self._idle_until = 0.0  # limit of the time without a request
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False  # the client sends nothing more
        self._is_reading = True

    @property
    def is_idle(self) -> bool:
        """True if no request is being answered."""
        return self._exchange is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self._flow = WriteFlow(self._loop, self.transport)
        self._server, self._client = (
            address[:2] if isinstance(address, tuple) else None
            for address in map(transport.get_extra_info, ("sockname", "peername"))
        )
        self._owner.connections[self] = None
        self._limit_idle_time(_FIRST_REQUEST_SECONDS)
        self._check_idle_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connections.pop(self, None)
        self._cancel_timer()
        self._flow.resume()  # an answer that waits for a slow client would wait for ever
        if self._exchange is not None and self._task is not None:
            self._exchange.end()
            self._timer = self._loop.call_later(_GRACE_SECONDS, self._task.cancel)

    def pause_writing(self) -> None:
        self._flow.pause()

    def resume_writing(self) -> None:
        self._flow.resume()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except InvalidRequestError as refused:
            self._refuse(refused.status)
            return
        self._proceed()

    def eof_received(self) -> bool:
        """Keep the connection open for answers, but not for a part of a request.

        Returns:
            True if the transport stays open for writing.
        """
        self._has_ended = True
        return self._exchange is not None and self._parser.is_complete

    def close_in_child(self) -> None:
        """Close the connection's descriptor in a process that a model's code has forked.

        The client would otherwise wait for the exit of that process. Only the descriptor is closed:
        the event loop's state is shared with the parent.
        """
        with contextlib.suppress(OSError):
            os.close(self.transport.get_extra_info("socket").fileno())

    def _proceed(self) -> None:
        """Answer the request if its head has arrived, or hand over more of its body."""
        head = self._parser.head
        if self._exchange is not None:
            self._exchange.wake()
        elif head is not None:
            self._exchange = Exchange(
                self._parser, head, self.transport, self._flow, self._resume_reading
            )
            self._task = self._loop.create_task(self._answer(self._scope(head), self._exchange))
        if self._parser.n_held > _MAX_HELD_BYTES and self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()

    def _scope(self, head: RequestHead) -> Scope:
        line = head.line
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": line.version,
            "method": line.method,
            "scheme": "http",
            "path": line.path,
            "raw_path": line.raw_path,
            "query_string": line.query,
            "root_path": "",
            "headers": head.fields,
            "server": self._server,
            "client": self._client,
        }

    async def _answer(self, scope: Scope, exchange: Exchange) -> None:
        try:
            await self._owner.asgi(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the client is gone, or the worker exits
            self.transport.close()
            raise
        except Exception:
            if not exchange.is_complete:
                logger.exception("request_failed")
        finally:
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """Go on with the next request, or close the connection after the last one."""
        exchange.end()
        self._exchange = self._task = None
        if self.transport.is_closing():
            self._cancel_timer()
        elif not exchange.is_complete and not exchange.has_written:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif exchange.closes or not exchange.is_complete or not self._parser.is_complete:
            self.transport.close()
        else:
            self._limit_idle_time(_KEEP_ALIVE_SECONDS)
            self._begin_next()

    def _begin_next(self) -> None:
        try:
            self._parser.begin_next()
        except InvalidRequestError as refused:
            self._refuse(refused.status)
            return
        if self._has_ended and not self._parser.is_complete:
            self.transport.close()
            return
        self._proceed()
        self._resume_reading()

    def _refuse(self, status: HTTPStatus) -> None:
        """Close the connection, with an answer to the request if it has none yet."""
        if self.transport.is_closing():
            return
        if self._exchange is None or not self._exchange.has_written:
            self.transport.write(refusal(status))
        if self._exchange is not None:
            self._exchange.end()
        self.transport.close()

    def _resume_reading(self) -> None:
        if not self._is_reading and self._parser.n_held <= _MAX_HELD_BYTES:
            self._is_reading = True
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _limit_idle_time(self, seconds: float) -> None:
        self._idle_until = self._loop.time() + seconds

    def _check_idle_time(self) -> None:
        """Close an idle connection when its time is over, or else look again later.

        A timer for each request would cost more than this one for the connection.
        """
        left = self._idle_until - self._loop.time() if self.is_idle else _KEEP_ALIVE_SECONDS
        if left <= 0:
            self.transport.close()
        else:
            self._timer = self._loop.call_later(left, self._check_idle_time)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
