"""gunicorn's HTTP connection, with what a server for one platform needs besides.

What differs from the stock one (gunicorn 27.0.1) and why:

- One that sends no request is closed: the stock one waits for the first request for ever.
- A client that closes its side after a request gets its answer.
- One that takes nothing of its answer is cut off: the stock one keeps it for ever.
- A stream ends when its client leaves: the stock one waits for it to read on for ever.
- Once closed it is gone, if nothing is being answered: the stock one stays for 3 seconds.
- A request is answered in the task of its connection: ours are over with their answer.
- What is not HTTP is answered in the form of all errors.
"""

import asyncio
import contextlib
import os
from http import HTTPStatus
from typing import Any, Protocol

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from serve.http.error_body import CONTENT_TYPE, error_body, request_id
from serve.http.responses import Receive, Send
from serve.http.whole_bodies import ASGIApp
from serve.leases import Scope

_FIRST_REQUEST_SECONDS = 30.0
# How long a client may take nothing of an answer that waits for it: 64 KiB and more.
_UNREAD_SECONDS = 30.0
_CLOSING_SECONDS = 1.0


def complete_reasons() -> None:
    """Have gunicorn name every status: its own table of reasons has only some."""
    protocol._REASON_PHRASES.update({status.value: status.phrase for status in HTTPStatus})


class ConnectionOwner(Protocol):
    """The worker of a connection: the part of it that `Connection` uses beside gunicorn's own."""

    connections: "dict[Connection, None]"  # all open ones, the oldest first

    @property
    def asgi(self) -> ASGIApp:
        """The application that answers."""


class Connection(ASGIProtocol):  # type: ignore[misc]
    """One client connection that knows whether it is idle and is known to its worker."""

    def __init__(self, worker: ConnectionOwner) -> None:
        super().__init__(worker)
        self.app: ASGIApp = self._counted
        self.n_running = 0
        self._has_ended = False
        self._first_request: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._first_request is not None:
            self._first_request.cancel()
            self._first_request = None
        self.n_running += 1
        try:
            await self.worker.asgi(scope, receive, send)
        finally:
            self.n_running -= 1
            if self._has_ended:
                self.worker.loop.call_soon(self.transport.close)

    def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> Any:
        """Answer in the task of the connection: our application ends with its answer."""
        return self._handle_http_request(request, sockname, peername)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.worker.connections[self] = None
        # From here on gunicorn's own keep-alive timer bounds the wait for the next request.
        self._first_request = self.worker.loop.call_later(_FIRST_REQUEST_SECONDS, transport.close)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.pop(self, None)
        if self._first_request is not None:
            self._first_request.cancel()
        # Who waits to send more to a client that has gone would wait for ever: nothing is read.
        self.resume_writing()
        task: asyncio.Task[None] | None = self._task  # type: ignore[has-type]
        if not self.n_running and self._request_ready is not None:
            # Nothing is left to do, which the stock protocol finds out after 3 seconds: until then
            # a connection is 10 KB.
            self._closed = True
            self._task = None
            self._request_ready.set()
        super().connection_lost(exc)
        if task is None:
            self._break_cycles()
        else:
            task.add_done_callback(lambda _: self._break_cycles())

    def _break_cycles(self) -> None:
        """Free a closed connection at once: the garbage collector would find it minutes later.

        Until then its objects lie between the large bodies of others and fragment the heap.
        """
        del self.app
        self._callback_parser = None

    def pause_writing(self) -> None:
        """The client is slower than its answer, which is kept for it and holds up a drain."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _watch_reader(self, n_bytes: int) -> None:
        self._unread = self.worker.loop.call_later(_UNREAD_SECONDS, self._check_reader, n_bytes)

    def _check_reader(self, n_bytes: int) -> None:
        n_left = self.transport.get_write_buffer_size()
        if n_left < n_bytes:
            self._watch_reader(n_left)
        else:  # closing would wait for the answer to be read
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except ValueError:  # a number of thousands of digits, which the parser converts
            self._send_error_response(400, "")
            self.transport.close()

    def eof_received(self) -> bool:
        """Keep the connection open for the answer, if one is owed: not for half a request."""
        self._has_ended = True
        if self._body_receiver is not None and not self._body_receiver._complete:
            return False
        is_owed = self.n_running > 0 or self._current_request is not None
        if is_owed:  # unless that request is just over
            self.worker.loop.call_later(_CLOSING_SECONDS, self._close_unless_running)
        return is_owed

    def _close_unless_running(self) -> None:
        if not self.n_running:
            self.transport.close()

    def _send_error_response(
        self, status: int, message: str, extra_headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Answer what the parser refused; its own message may quote the request."""
        reason = self._get_reason_phrase(status)
        body = error_body("invalid_http", f"the request is refused: {reason}", request_id(""))
        head = [
            f"HTTP/1.1 {status} {reason}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in extra_headers),
            "Connection: close",
        ]
        self._safe_write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def leave_to_parent(self) -> None:
        """Called in a process that a model's code has forked: its client must not wait for that.

        Nothing but the descriptor is closed, since the rest is shared with the parent.
        """
        with contextlib.suppress(OSError):
            os.close(self.transport.get_extra_info("socket").fileno())
