"""Placeholder process: answers 503 until the readiness of the first worker.

The port is open before a model is loaded, so that clients are asked to retry instead of having
their connections refused or left waiting (C-046, C-048). The placeholder is a separate process,
because loading a model may hold the interpreter lock for seconds.
"""

import asyncio
import contextlib
import os
import signal
import socket
from typing import Self

from serve.http.error_body import CONTENT_TYPE, error_body, request_id

BACKLOG = 2048
_MAX_HEAD_BYTES = 2**16
# A client's time for sending the head of its request, and again for reading the answer and closing.
_CLIENT_SECONDS = 2.0
_DISMISSAL_SECONDS = 5.0


def open_port(port: int) -> socket.socket:
    """Open a socket that listens on all addresses.

    Args:
        port: TCP port; 0 for any free one.
    Raises:
        OSError: the port is taken, or may not be used.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))  # noqa: S104 - as the platform asks (C-041)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Placeholder:
    """The process that answers before a worker is ready; started by the parent of all workers.

    `fills_later_gaps` is True if it is started again when the last worker has exited. Set it where
    each worker loads its own model. A worker that shares its parent's model is ready within
    milliseconds, and connections rather wait in the backlog.
    """

    def __init__(self) -> None:
        self.fills_later_gaps = False
        self._process_id = 0
        # All that were started: one that was dismissed still answers the clients that it has.
        self.process_ids: set[int] = set()
        self._ours: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours is not None:
            self.dismiss()
            self._ours.close()
            with contextlib.suppress(ChildProcessError):  # the arbiter has reaped it
                os.waitpid(self._process_id, 0)

    def start(self, listener: socket.socket) -> None:
        """Answer on this socket until `dismiss` is called, or all processes that could have exited.

        Args:
            listener: Shared with the workers, which accept connections from it later.
        """
        if self._ours is not None:
            self._ours.close()
        self._ours, theirs = socket.socketpair()
        self._process_id = os.fork()
        if self._process_id == 0:
            self._ours.close()
            _answer_and_exit(listener, theirs)
        theirs.close()
        self.process_ids.add(self._process_id)

    def dismiss(self) -> None:
        """Stop the process, and return when it accepts no more connections. Idempotent.

        Workers call this when they are ready: each has inherited a copy of the socket pair.
        """
        if self._ours is None:
            return
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
            self._ours.settimeout(_DISMISSAL_SECONDS)
            self._ours.recv(1)  # receives nothing: returns when the other side is closed


def _answer_and_exit(listener: socket.socket, dismissal: socket.socket) -> None:
    """Run the child process. Never returns, and runs no exit handlers of the parent."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        asyncio.run(_serve(listener, dismissal))
    finally:
        os._exit(0)


async def _serve(listener: socket.socket, dismissal: socket.socket) -> None:
    clients: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            clients.add(task)
        with contextlib.suppress(OSError, TimeoutError, EOFError, ValueError):
            await _answer(reader, writer)
        writer.close()

    listener.setblocking(False)
    dismissal.setblocking(False)
    server = await asyncio.start_server(
        answer, sock=listener, backlog=BACKLOG, limit=_MAX_HEAD_BYTES
    )
    await asyncio.get_running_loop().sock_recv(dismissal, 1)
    server.close()
    dismissal.close()
    if clients:
        await asyncio.wait(clients, timeout=2 * _CLIENT_SECONDS)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_CLIENT_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    body = error_body("loading", "the model is being loaded; try again", request_id(""))
    reply = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
    )
    writer.write(reply.encode() + (b"" if head.startswith(b"HEAD ") else body))
    writer.write_eof()
    # TCP resets a connection that is closed with unread data, and the client loses the answer.
    async with asyncio.timeout(_CLIENT_SECONDS):
        while await reader.read(_MAX_HEAD_BYTES):
            pass
