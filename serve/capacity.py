"""Threads for the work that would hold up the event loop, and a bounded line before them.

The threads are daemons of our own rather than a `ThreadPoolExecutor`: that one waits for its
threads when the process ends, and a model that hangs would keep its worker from being replaced.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from container.errors import OverloadedError

T = TypeVar("T")


class Capacity:
    """What one worker can have in hand; used from its event loop only."""

    def __init__(self, *, n_threads: int, n_waiting: int) -> None:
        """Nothing is started before there is work, so that a process may still fork."""
        self._n_threads = n_threads
        self._limit = n_threads + n_waiting
        self._n_in_hand = 0
        self._n_started = 0
        self._jobs: SimpleQueue[_Job] = SimpleQueue()

    async def run(self, work: Callable[[], T], *, has_begun: bool = False) -> T:
        """Do `work` in a thread.

        Args:
            work: Called once.
            has_begun: It goes on with something that was admitted, and is never refused.
        Raises:
            OverloadedError: at once, when as much as may wait is waiting.
        """
        if self._n_in_hand >= self._limit and not has_begun:
            raise OverloadedError("invocations in hand", self._limit, "BYOA_MAX_WAITING")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._n_in_hand += 1
        future.add_done_callback(self._done)
        self._jobs.put(_Job(loop, future, work))
        if self._n_started < min(self._n_threads, self._n_in_hand):
            self._n_started += 1
            threading.Thread(target=self._serve, daemon=True, name="invocation").start()
        try:
            return await future
        finally:
            del future  # else its exception, whose traceback holds this frame, would hold itself

    def _done(self, _: object) -> None:
        self._n_in_hand -= 1

    def _serve(self) -> None:
        while True:
            self._jobs.get().do()


class _Job:
    """Work on its way through a thread, which lets go of all that it used before it says so.

    Whoever waits may free a model the moment it is told; what a thread still held would be freed
    only later, and its memory be missing from what `DELETE` says has been given back (C-085).
    """

    __slots__ = ("_error", "_future", "_loop", "_result", "_work")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Any]",
        work: Callable[[], Any],
    ) -> None:
        self._loop = loop
        self._future: asyncio.Future[Any] | None = future
        self._work: Callable[[], Any] | None = work
        self._result: Any = None
        self._error: Exception | None = None

    def do(self) -> None:
        """Called in a thread; the future belongs to the loop and is only settled there."""
        if self._work is None or self._future is None or self._future.done():
            return  # nobody waits for it any more
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - also SystemExit: it is the request that ends
            self._error = _as_plain(error)
        self._work = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is leaving
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        future, result, error = self._future, self._result, self._error
        # The traceback of an error holds the frame of `do`, and so this object.
        self._future = self._result = self._error = None
        if future is None or future.done():  # timed out, or the client has gone
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _as_plain(error: BaseException) -> Exception:
    """A future takes neither what would end the process nor what would end a generator."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{error!r} was raised")
