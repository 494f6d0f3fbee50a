"""One request and its answer: the functions `receive` and `send` of ASGI."""

import asyncio
from collections.abc import Callable

from serve.http.asgi import Message
from serve.http1.request_head import RequestHead
from serve.http1.request_parser import RequestParser
from serve.http1.response_head import ResponseHead, date_field, response_head
from serve.http1.write_flow import WriteFlow

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
# A larger body is written after the head. Joining them would copy it.
_MAX_JOINED_BYTES = 65536


class Exchange:
    """One request and its answer; used on the event loop only."""

    __slots__ = (
        "_expects_continue",
        "_flow",
        "_has_body",
        "_head",
        "_is_chunked",
        "_is_over",
        "_is_taken",
        "_n_left",
        "_on_taken",
        "_parser",
        "_request",
        "_transport",
        "_unsent",
        "_waiter",
        "closes",
        "is_complete",
    )

    def __init__(
        self,
        parser: RequestParser,
        request: RequestHead,
        transport: asyncio.Transport,
        flow: WriteFlow,
        on_taken: Callable[[], None],
    ) -> None:
        """Args:
        parser: Has the body of the request.
        request: The head of the request.
        transport: For the answer.
        flow: Of the transport.
        on_taken: Called when the application has taken a piece of the body.
        """
        self.closes = request.closes  # the connection, after the answer
        self.is_complete = False  # the answer is written
        self._parser = parser
        self._request = request
        self._transport = transport
        self._flow = flow
        self._on_taken = on_taken
        self._expects_continue = request.expects_continue
        self._is_taken = False  # all of the request's body
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._head: ResponseHead | None = None
        self._unsent = b""  # the encoded head, written together with the first piece of the body
        self._has_body = self._is_chunked = False
        self._n_left = 0  # bytes of the answer's body without chunks

    @property
    def has_written(self) -> bool:
        """True if a part of the answer is written."""
        return self._head is not None and not self._unsent

    def wake(self) -> None:
        """Let `receive` look again: more of the body has arrived."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """Let `receive` report the end: the client is gone, or the answer is complete."""
        self._is_over = True
        self.wake()

    async def receive(self) -> Message:
        """Return the next piece of the body; after the last one, wait for the end."""
        while not self._is_over:
            if not self._is_taken:
                body, is_last = self._parser.take_body(), self._parser.is_complete
                if body or is_last:
                    self._expects_continue = False
                    self._is_taken = is_last
                    self._on_taken()
                    return {"type": "http.request", "body": body, "more_body": not is_last}
                if self._expects_continue:
                    self._expects_continue = False
                    self._transport.write(_CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Write a part of the answer, and wait while the client is slow; do nothing if it is gone.

        Raises:
            RuntimeError: the application sends messages in a wrong order.
            ValueError: a header cannot be sent.
        """
        if self._transport.is_closing():
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], tuple(message.get("headers", ())))
            return
        self._write(message.get("body", b""), is_last=not message.get("more_body", False))
        if self._flow.is_paused:
            await self._flow.drained()

    def _begin(self, status: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """Decide how the end of the answer is marked, and encode its head."""
        if self._head is not None:
            raise RuntimeError("the answer has begun already")
        head = response_head(status, fields)
        method, *_, version = self._request.line
        self._head = head
        self._expects_continue = False
        self._has_body = head.has_body and method != "HEAD"
        # What is left of the request would be parsed as the next one.
        self.closes = self.closes or head.closes or not self._parser.is_complete
        lines = [head.encoded, date_field()]
        if self._has_body:
            self._n_left = head.length or 0
            if head.length is None and version == "1.0":
                self.closes = True
            elif head.length is None:
                self._is_chunked = True
                lines.append(_CHUNKED)
        if self.closes:
            lines.append(b"" if head.closes else _CLOSE)
        elif version == "1.0":
            lines.append(_KEEP_ALIVE)
        lines.append(b"\r\n")
        self._unsent = b"".join(lines)

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if self._head is None or self.is_complete:
            raise RuntimeError("the answer has not begun, or is complete already")
        if not self._has_body:
            body = b""
        elif self._is_chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if is_last:
                body += _LAST_CHUNK
        elif self._head.length is not None:
            self._n_left -= len(body)
        if self._unsent and len(body) <= _MAX_JOINED_BYTES:
            body = self._unsent + body
        elif self._unsent:
            self._transport.write(self._unsent)
        self._unsent = b""
        if body:
            self._transport.write(body)
        if is_last:
            self.is_complete = True
            # The client would take the next answer for the rest of this one.
            self.closes = self.closes or self._n_left != 0
