"""gunicorn's ASGI worker, with its own accept loop, HTTP connection and draining.

Differences from gunicorn 27.0.1, with the reason for each:

- It serves HTTP by `serve/http1`, which bounds what slow, silent and lost clients take, refuses
  more of what two parsers could read in two ways, and takes less CPU time.
- It accepts connections in batches. The size of a batch grows with the length of the last event
  loop iteration. The stock worker leaves accepting to asyncio, which takes the whole backlog: one
  worker may get every connection of a burst and its sibling none. asyncio also cuts the listen
  backlog to 100 (C-048, C-077).
- On SIGTERM it ends its readiness (pings are 503), finishes the requests in flight, closes idle
  connections and exits. The stock worker waits for idle keep-alive connections until
  `graceful_timeout`.
- It closes idle connections where there are too many. The stock worker has no limit.
- A process that a model's code forks closes its copies of the sockets. A client would otherwise
  wait for the exit of that process.
- It dismisses the placeholder process when it is ready.
- It returns free memory to the system every 5 seconds. The stock worker keeps its peak.
"""

import asyncio
import contextlib
import errno
import logging
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker

from container import allocator
from serve.gunicorn.placeholder import Placeholder
from serve.http.inference_app import InferenceApplication
from serve.http1.http_connection import Connection
from serve.runtime import decoder_pool

# The part of gunicorn's graceful_timeout that is reserved for closing connections and the arbiter.
_RESERVED_SECONDS = 2.0
_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 1.0
# Between two trims, requests of other sizes touch the free pages of a fragmented heap again.
_TRIM_SECONDS = 5.0
_MAX_TRIM_SHARE = 0.001  # of the worker's time; requests wait meanwhile
# An idle connection takes about 3 KB of the process; the platform keeps a few dozen.
_MAX_CONNECTIONS = 4096
_ACCEPT_PAUSE_SECONDS = 0.5
_SECONDS_PER_CONNECTION = 0.00025
_MAX_ACCEPTED = 64
_FLASK_THREADS = "WSGI"  # prefix of the names that a2wsgi gives its threads
# Blocked by `serve.gunicorn.arbiter` while a worker is being spawned.
EXIT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class InferenceWorker(ASGIWorker):  # type: ignore[misc]
    """Worker process that runs one `InferenceApplication` on its event loop."""

    asgi: InferenceApplication
    placeholder: Placeholder  # set before the fork

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connections: dict[Connection, None] = {}  # the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._exiting = asyncio.Event()
        self._backlog_since: float | None = None  # end of an accept batch that left connections
        self._ready = mmap.mmap(-1, 1)  # written here, read by the arbiter

    @property
    def was_ready(self) -> bool:
        """True if the worker has ever accepted connections; also valid in the arbiter."""
        return self._ready[0] != 0

    def init_signals(self) -> None:
        """Unblock the signals that the arbiter has blocked, with the default action: exit.

        The handlers of the event loop are added by `_serve`, once the loop runs. uvloop keeps a
        signal that arrives between `add_signal_handler` and the first iteration until another one
        arrives, so that the worker would not exit before `graceful_timeout`.
        """
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_SIGNALS)

    def load_wsgi(self) -> None:
        """Create the application, with `retire` as its way to have this worker replaced."""
        self.asgi = self.app.wsgi()(self.retire)

    def retire(self) -> None:
        """Drain and exit as on SIGTERM; the arbiter spawns another worker."""
        self.log.warning("Worker retires (pid: %s)", self.pid)
        self.handle_exit_signal()

    def handle_exit_signal(self) -> None:
        """Handle SIGTERM: end readiness, finish the requests in flight, exit. Idempotent."""
        if self.asgi.begin_drain():
            self._start(self._exit_when_drained())

    def handle_quit_signal(self) -> None:
        """Handle SIGINT and SIGQUIT: exit at once."""
        super().handle_quit_signal()
        self._exiting.set()

    def run(self) -> None:
        """Serve until the exit. Threads that a user's code started do not delay the exit."""
        super().run()
        self.asgi.close()
        decoder_pool.POOL.close()
        threads = [thread.name for thread in threading.enumerate()[1:] if not thread.daemon]
        if threads:
            # Flask's threads are idle by now, and end only with the interpreter.
            if not all(name.startswith(_FLASK_THREADS) for name in threads):
                self.log.warning(
                    "Worker exits although threads of a model still run (pid: %s)", self.pid
                )
            logging.shutdown()
            os._exit(0)

    async def _exit_when_drained(self) -> None:
        try:
            async with asyncio.timeout(self.cfg.graceful_timeout - _RESERVED_SECONDS):
                await self.asgi.drained()
        except TimeoutError:
            self.log.warning("Worker exits with requests in flight: the time for draining is over")
        self.alive = False
        self._exiting.set()

    async def _serve(self) -> None:
        super().init_signals()
        listeners = [listener.sock for listener in self.sockets]
        os.register_at_fork(after_in_child=self._close_in_child)
        self._ready[0] = 1
        self.placeholder.dismiss()
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)
        self.loop.call_later(_TRIM_SECONDS, self._trim)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exiting.wait(), _HEARTBEAT_SECONDS)
        for listener in listeners:
            self.loop.remove_reader(listener)
        await self._close_connections()

    def _trim(self) -> None:
        """Return free memory to the system, now and later.

        A heap of little free memory takes less than 1 ms, a fragmented one of 450 MB takes 50 ms.
        """
        began = self.loop.time()
        allocator.release_free_memory()
        took = self.loop.time() - began
        self.loop.call_later(max(_TRIM_SECONDS, took / _MAX_TRIM_SHARE), self._trim)

    async def _close_connections(self) -> None:
        """Close all connections; a transport sends its write buffer before it closes."""
        for connection in list(self.connections):
            connection.transport.close()
        deadline = self.loop.time() + _CLOSING_SECONDS
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _close_in_child(self) -> None:
        for listener in self.sockets:
            with contextlib.suppress(OSError):
                os.close(listener.sock.fileno())
        for connection in self.connections:
            connection.close_in_child()

    def _listen(self, listener: socket.socket) -> None:
        self.loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept a batch of connections, larger after a long event loop iteration.

        Equally busy workers get equal shares of a burst, and an idle worker gets more.
        """
        now = time.monotonic()
        began = now if self._backlog_since is None else self._backlog_since
        self._backlog_since = None
        for _ in range(min(2 + int((now - began) / _SECONDS_PER_CONNECTION), _MAX_ACCEPTED)):
            if not self._accept_one(listener):
                return
        self._backlog_since = now

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection; False if none is in the backlog, or none can be accepted now."""
        if len(self.connections) >= _MAX_CONNECTIONS and not self._close_an_idle_connection():
            self._pause(listener)
            return False
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was faster, or the client has disconnected
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self.log.warning("Cannot accept a connection: %s", error.strerror)
            self._close_an_idle_connection()
            self._pause(listener)
            return False
        client.setblocking(False)
        self._start(self._connect(client))
        return True

    def _pause(self, listener: socket.socket) -> None:
        """Leave connections in the kernel's backlog for a while.

        The event loop would otherwise report the listener as readable in every iteration.
        """
        self.loop.remove_reader(listener)
        self.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._exiting.is_set():
            self._listen(listener)

    def _close_an_idle_connection(self) -> bool:
        idle = next((kept for kept in self.connections if kept.is_idle), None)
        if idle is None:
            return False
        self.connections.pop(idle)
        idle.transport.close()
        return True

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError as error:
            self.log.debug("Connection lost while it was being accepted: %s", error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
