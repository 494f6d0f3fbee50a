"""Request bodies for WSGI applications: received before a thread is taken."""

from container.errors import ContainerError
from serve.http.asgi import ASGIApp, Message, Receive, Scope, Send
from serve.http.error_body import request_id_of
from serve.http.request_body import ClientDisconnectedError, RequestBodies
from serve.http.responses import Refusal, closing, send_whole

# Larger than any request that is not an invocation.
MAX_BYTES = 2**20
LIMIT = "the server for requests that are not invocations"


class WholeBodies:
    """ASGI middleware that receives a request's body, bounded in size and time, on the event loop.

    A WSGI application reads the body in its thread, so that a few slow clients would occupy all
    threads.
    """

    def __init__(
        self, app: ASGIApp, max_held_bytes: int, timeout_seconds: float, refusal: Refusal
    ) -> None:
        self._app = app
        self._refusal = refusal
        self._bodies = RequestBodies(
            max_bytes=MAX_BYTES,
            max_held_bytes=max_held_bytes,
            timeout_seconds=timeout_seconds,
            limit_setting=LIMIT,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body and call the application, or refuse the request."""
        headers = dict(scope["headers"])
        try:
            body = await self._bodies.read(headers, receive)
        except ClientDisconnectedError:
            return
        except ContainerError as error:
            await send_whole(send, closing(self._refusal(error, request_id_of(headers))))
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        try:
            await self._app(scope, receive_again, send)
        finally:
            self._bodies.release(body)
