"""gunicorn's HTTP/1.1 connection, with time limits for clients that are slow, silent or gone.

Differences from gunicorn 27.0.1, with the reason for each:

- A connection without a first request is closed. The stock one waits for ever.
- A client that closes its sending side after a request gets its answer.
- A client that reads nothing of its answer is disconnected. The stock connection keeps it for ever.
- A stream ends when its client disconnects. The stock one waits for the client to read, for ever.
- A closed connection that answers nothing is freed at once. The stock one stays for 3 seconds.
- A request is answered in the task of its connection. The stock one starts a task for each, for
  applications that go on after their answer; this one never does.
- Invalid HTTP is answered with the error body of all other errors.
"""

import asyncio
import contextlib
import os
from http import HTTPStatus
from typing import Any, Protocol

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from serve.gunicorn.http_parser import refused_head
from serve.http.asgi import ASGIApp, Receive, Scope, Send
from serve.http.error_body import CONTENT_TYPE, error_body, request_id
from serve.http.responses import JSON, Reply, closing, send_whole

_FIRST_REQUEST_SECONDS = 30.0
# Limit of the time in which a client reads nothing of an answer of more than 64 KiB.
_UNREAD_SECONDS = 30.0
_CLOSING_SECONDS = 1.0


def complete_reasons() -> None:
    """Add the reason phrase of every status to gunicorn's table, which has only some."""
    protocol._REASON_PHRASES.update({status.value: status.phrase for status in HTTPStatus})


class ConnectionOwner(Protocol):
    """The worker of a connection: the part of it that `Connection` uses beside gunicorn's own."""

    connections: "dict[Connection, None]"  # all open ones, the oldest first

    @property
    def asgi(self) -> ASGIApp:
        """The application that answers."""


class Connection(ASGIProtocol):  # type: ignore[misc]
    """One client connection, listed in `worker.connections`; idle while `n_running` is 0."""

    def __init__(self, worker: ConnectionOwner) -> None:
        super().__init__(worker)
        self.app: ASGIApp = self._counted
        self.n_running = 0
        self._has_ended = False
        self._first_request: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application for one request, and count it in `n_running` meanwhile."""
        if self._first_request is not None:
            self._first_request.cancel()
            self._first_request = None
        self.n_running += 1
        try:
            if scope["type"] == "http":
                status = refused_head(scope["headers"], scope["http_version"])
                if status is not None:
                    await send_whole(send, _refusal(status))
                    return
            await self.worker.asgi(scope, receive, send)
        finally:
            self.n_running -= 1
            if self._has_ended:
                self.worker.loop.call_soon(self.transport.close)

    def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> Any:
        """Answer in the task of the connection: the application returns with its answer."""
        return self._handle_http_request(request, sockname, peername)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.worker.connections[self] = None
        # gunicorn's own keep-alive timer bounds the wait for each further request.
        self._first_request = self.worker.loop.call_later(_FIRST_REQUEST_SECONDS, transport.close)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.pop(self, None)
        if self._first_request is not None:
            self._first_request.cancel()
        # An application that waits for the write buffer to drain would wait for ever.
        self.resume_writing()
        task: asyncio.Task[None] | None = self._task  # type: ignore[has-type]
        if not self.n_running and self._request_ready is not None:
            # End the task now. The stock protocol cancels it after 3 seconds, and a connection
            # takes 10 KB until then.
            self._closed = True
            self._task = None
            self._request_ready.set()
        super().connection_lost(exc)
        if task is None:
            self._break_cycles()
        else:
            task.add_done_callback(lambda _: self._break_cycles())

    def _break_cycles(self) -> None:
        """Break the reference cycles of a closed connection, so that it is freed at once.

        The garbage collector would free it minutes later. Until then its objects lie between the
        large bodies of other requests and fragment the heap.
        """
        del self.app
        self._callback_parser = None

    def pause_writing(self) -> None:
        """Watch the client: the write buffer is full, and delays a drain until it is read."""
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
        n_unread = self.transport.get_write_buffer_size()
        if n_unread < n_bytes:
            self._watch_reader(n_unread)
        else:  # `close` would wait until the write buffer is empty
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except ValueError:  # from `int` in the parser, for a number of thousands of digits
            self._send_error_response(400, "")
            self.transport.close()

    def eof_received(self) -> bool:
        """Keep the connection open for an answer in progress, but not for half a request.

        Returns:
            True if the transport stays open for writing.
        """
        self._has_ended = True
        if self._body_receiver is not None and not self._body_receiver._complete:
            return False
        is_answering = self.n_running > 0 or self._current_request is not None
        if is_answering:  # or has just answered, and nothing else would close the connection
            self.worker.loop.call_later(_CLOSING_SECONDS, self._close_unless_running)
        return is_answering

    def _close_unless_running(self) -> None:
        if not self.n_running:
            self.transport.close()

    def _send_error_response(
        self, status: int, message: str, extra_headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Answer a request that the parser refused; `message` may quote it and is not sent."""
        reply = _refusal(HTTPStatus(status))
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(reply.body)}",
            *(f"{name}: {value}" for name, value in extra_headers),
            "Connection: close",
        ]
        if not self.transport.is_closing():
            self.transport.write("\r\n".join([*head, "", ""]).encode("latin-1") + reply.body)

    def close_in_child(self) -> None:
        """Close the connection's descriptor in a process that a model's code has forked.

        The client would otherwise wait for the exit of that process. Only the descriptor is closed:
        the event loop's state is shared with the parent.
        """
        with contextlib.suppress(OSError):
            os.close(self.transport.get_extra_info("socket").fileno())


def _refusal(status: HTTPStatus) -> Reply:
    """Create the reply to a request that is not valid HTTP; it closes the connection."""
    message = f"the request is refused: {status.phrase}"
    return closing(Reply(status, error_body("invalid_http", message, request_id("")), JSON))
