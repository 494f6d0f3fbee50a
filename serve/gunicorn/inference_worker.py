"""gunicorn's ASGI worker, with the accepting and draining that we need.

What differs from the stock ones (gunicorn 27.0.1) and why:

- It accepts connections in batches, in each iteration of the event loop as many as the last one
  was long for. The stock worker leaves accepting to asyncio, which takes everything that waits, so
  that one worker may get every connection of a burst and its sibling none; asyncio also cuts the
  listen backlog to 100 (C-048, C-077).
- On SIGTERM it first answers pings with 503, finishes what is in flight, closes idle connections
  and then leaves. The stock worker waits for idle kept-alive connections until the time is up.
- Idle connections make room where there are too many. The stock worker counts nothing.
- What a model's code forks lets go of the sockets, so that no client waits for its end.
- It shares its socket with a process that stands in for it until it can answer.
- It returns free memory to the system once a minute. The stock worker keeps what it once needed.
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
from serve.gunicorn import http_parser
from serve.gunicorn.placeholder import StandIn
from serve.gunicorn.protocol import Connection, complete_reasons
from serve.http.inference_app import InferenceApplication
from serve.runtime import decoder_pool

# Out of gunicorn's graceful_timeout, what is left for closing connections and for the arbiter.
_RESERVED_SECONDS = 2.0
_CLOSING_SECONDS = 1.0
_HEARTBEAT_SECONDS = 1.0
_TRIM_SECONDS = 60.0
_MAX_TRIM_SHARE = 0.0002  # of the worker's time; requests wait meanwhile
# A connection costs about 20 KB; the platform keeps a few dozen.
_MAX_CONNECTIONS = 4096
_ACCEPT_PAUSE_SECONDS = 0.5
_SECONDS_PER_CONNECTION = 0.00025
_MAX_ACCEPTED = 64
_FLASK_THREADS = "WSGI"  # how a2wsgi names them
# Held back by `serve.gunicorn.arbiter` while a worker is being born.
LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class InferenceWorker(ASGIWorker):  # type: ignore[misc]
    """Runs one `InferenceApplication` in its own process."""

    asgi: InferenceApplication
    stand_in: StandIn  # set before the fork

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connections: dict[Connection, None] = {}  # the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()
        self._left_waiting_at: float | None = None  # when connections may have been left waiting
        self._ready = mmap.mmap(-1, 1)  # written here, read by the arbiter

    @property
    def was_ready(self) -> bool:
        """Whether it has ever come so far as to accept connections."""
        return self._ready[0] != 0

    def init_signals(self) -> None:
        """Take over the signals that the arbiter has held back: they end a worker that loads.

        asyncio's handlers would wait for its loop, which does not run yet.
        """
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE_SIGNALS)

    def load_wsgi(self) -> None:
        """Make the application, which asks to be replaced when it cannot go on."""
        complete_reasons()
        http_parser.install()
        self.asgi = self.app.wsgi()(self.retire)
        super().init_signals()

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

    def run(self) -> None:
        """Serve until told to leave; threads that a user's code started do not hold that up."""
        super().run()
        self.asgi.close()
        decoder_pool.POOL.close()
        threads = [thread.name for thread in threading.enumerate()[1:] if not thread.daemon]
        if threads:
            # Those of Flask's requests are idle by now, and end only with the interpreter.
            if not all(name.startswith(_FLASK_THREADS) for name in threads):
                self.log.warning("Leaving threads behind that do not end (pid: %s)", self.pid)
            logging.shutdown()
            os._exit(0)

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
        os.register_at_fork(after_in_child=self._leave_to_parent)
        self._ready[0] = 1
        self.stand_in.dismiss()
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)
        self.loop.call_later(_TRIM_SECONDS, self._trim)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _HEARTBEAT_SECONDS)
        for listener in listeners:
            self.loop.remove_reader(listener)
        await self._close_connections()

    def _trim(self) -> None:
        """Return free memory to the system, now and later.

        A heap of little free memory takes less than 1 ms, a fragmented one of 450 MB takes 50 ms.
        """
        began = self.loop.time()
        allocator.give_back()
        took = self.loop.time() - began
        self.loop.call_later(max(_TRIM_SECONDS, took / _MAX_TRIM_SHARE), self._trim)

    async def _close_connections(self) -> None:
        """Answers are out by now; what is still written goes out before a connection closes."""
        for connection in list(self.connections):
            connection.transport.close()
        deadline = self.loop.time() + _CLOSING_SECONDS
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.01)

    def _leave_to_parent(self) -> None:
        for listener in self.sockets:
            with contextlib.suppress(OSError):
                os.close(listener.sock.fileno())
        for connection in self.connections:
            connection.leave_to_parent()

    def _listen(self, listener: socket.socket) -> None:
        self.loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept as many connections as the last iteration of the event loop was long for.

        Workers that are equally busy get equally many of a burst, and an idle one more.
        """
        now = time.monotonic()
        began = now if self._left_waiting_at is None else self._left_waiting_at
        self._left_waiting_at = None
        for _ in range(min(2 + int((now - began) / _SECONDS_PER_CONNECTION), _MAX_ACCEPTED)):
            if not self._accept_one(listener):
                return
        self._left_waiting_at = now

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection; False where none waits, or none can be taken now."""
        if len(self.connections) >= _MAX_CONNECTIONS and not self._close_an_idle_connection():
            self._pause(listener)
            return False
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # a sibling was faster, or the client has gone
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
        """Leave what waits to the kernel's queue, rather than ask for it again at once."""
        self.loop.remove_reader(listener)
        self.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._leaving.is_set():
            self._listen(listener)

    def _close_an_idle_connection(self) -> bool:
        idle = next((kept for kept in self.connections if not kept.n_running), None)
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
