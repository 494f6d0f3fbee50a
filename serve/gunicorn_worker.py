"""gunicorn's arbiter and ASGI worker, with the accepting, draining and logging that we need.

What differs from the stock ones (gunicorn 27.0.1) and why:

- It accepts one connection each time around the loop. The stock worker leaves accepting to
  asyncio, which takes everything that waits, so that one worker may get every connection of a
  burst and its sibling none; asyncio also cuts the listen backlog to 100 (C-048, C-077).
- On SIGTERM it first answers pings with 503, finishes what is in flight, closes idle connections
  and then leaves. The stock worker waits for idle kept-alive connections until the time is up.
- A worker that is told to leave while it is being born leaves. Between the fork and its own
  handlers a stock worker has the arbiter's, which only note the signal: the arbiter then waited
  until the time was up and killed it.
- Log lines go where all others go, as JSON.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any

from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from serve.asgi import ASGIApp, InferenceApplication, Scope
from serve.replies import Receive, Send

# Out of gunicorn's graceful_timeout, what is left for closing connections and for the arbiter.
_RESERVED_SECONDS = 2.0
_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 1.0
_LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class InferenceArbiter(Arbiter):  # type: ignore[misc] # gunicorn ships no type information
    """Starts workers that cannot miss a signal."""

    def spawn_worker(self) -> int:
        """Fork a worker with the signals held back until it has handlers of its own."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEAVE_SIGNALS)
        try:
            pid: int = super().spawn_worker()  # does not return in the worker
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEAVE_SIGNALS)
        return pid


class Connection(ASGIProtocol):  # type: ignore[misc]
    """One client connection that knows whether it is idle and is known to its worker."""

    def __init__(self, worker: "InferenceWorker") -> None:
        super().__init__(worker)
        self.app: ASGIApp = self._counted
        self.n_running = 0

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.n_running += 1
        try:
            await self.worker.asgi(scope, receive, send)
        finally:
            self.n_running -= 1

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.worker.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        super().connection_lost(exc)


class InferenceWorker(ASGIWorker):  # type: ignore[misc]
    """Runs one `InferenceApplication` in its own process."""

    asgi: InferenceApplication

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()

    def init_signals(self) -> None:
        """Take over the signals that `InferenceArbiter.spawn_worker` held back."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEAVE_SIGNALS)

    def load_wsgi(self) -> None:
        """Make the application, which asks to be replaced when it cannot go on."""
        self.asgi = self.app.wsgi()(self.retire)

    def retire(self) -> None:
        """Leave as on SIGTERM; the arbiter starts another worker."""
        self.log.warning("Worker retires (pid: %s)", self.pid)
        self.handle_exit_signal()

    def handle_exit_signal(self) -> None:
        """SIGTERM: stop being ready, finish the work, leave."""
        if self.asgi.begin_drain():
            self._start(self._leave_when_done())

    def handle_quit_signal(self) -> None:
        """SIGINT and SIGQUIT: leave at once."""
        super().handle_quit_signal()
        self._leaving.set()

    async def _leave_when_done(self) -> None:
        try:
            async with asyncio.timeout(self.cfg.graceful_timeout - _RESERVED_SECONDS):
                await self.asgi.drained()
        except TimeoutError:
            self.log.warning("Leaving with requests in flight: the time for draining is up")
        self.alive = False
        self._leaving.set()

    async def _serve(self) -> None:
        listeners = [listener.sock for listener in self.sockets]
        for listener in listeners:
            listener.setblocking(False)
            self.loop.add_reader(listener, self._accept, listener)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _HEARTBEAT_SECONDS)
        for listener in listeners:
            self.loop.remove_reader(listener)
        await self._close_connections()

    async def _close_connections(self) -> None:
        """Answers are out by now; what is still written goes out before a connection closes."""
        for connection in list(self.connections):
            connection.transport.close()
        deadline = self.loop.time() + _CLOSING_SECONDS
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # a sibling was faster, or the client has gone
        client.setblocking(False)
        self._start(self._connect(client))

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError as error:
            self.log.debug("Connection lost while it was being accepted: %s", error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)


class JsonLogger(glogging.Logger):  # type: ignore[misc]
    """Leaves the formatting of gunicorn's messages to the root logger."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)
