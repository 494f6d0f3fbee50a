"""Threads for the work that would hold up the event loop, and a bounded line before them.

The threads are daemons of our own rather than a `ThreadPoolExecutor`: that one waits for its
threads when the process ends, and a model that hangs would keep its worker from being replaced.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
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
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()

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
        self._work.put(partial(_settle, loop, future, work))
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
            self._work.get()()


def _settle(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", work: Callable[[], Any]
) -> None:
    """Run in a thread; the future belongs to the loop and is only settled there."""
    if future.done():  # nobody waits for it any more
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - also SystemExit: it is the request that ends
        _tell(loop, future, None, _as_plain(error))
    else:
        _tell(loop, future, result, None)
    del future  # as in `run`


def _as_plain(error: BaseException) -> Exception:
    """A future takes neither what would end the process nor what would end a generator."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{error!r} was raised")


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[Any]",
    result: Any,
    error: BaseException | None,
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is leaving
        loop.call_soon_threadsafe(_set, future, result, error)


def _set(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():  # nobody waits any more: timed out, or the client has gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
