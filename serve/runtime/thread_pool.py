"""Threads for the work that would hold up the event loop, and a bounded line before them.

The threads are daemons of our own rather than a `ThreadPoolExecutor`: that one waits for its
threads when the process ends, and a model that hangs would keep its worker from being replaced.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, NoReturn, TypeVar

from container.errors import OverloadedError

T = TypeVar("T")

# Of each iteration of the event loop; the ping of a new connection takes four iterations.
_INLINE_SECONDS = 0.01
# Refusing costs a quarter of answering, and clients that come again at once come for ever.
_ANSWERS_PER_REFUSAL = 8
_REFUSALS_PER_ITERATION = 16


def _nothing() -> None:
    """What there is to do where nothing is asked for."""


class ThreadPool:
    """What one worker can have in hand; used from its event loop only."""

    def __init__(
        self, *, n_threads: int, n_waiting: int, on_overdue: Callable[[], None] = _nothing
    ) -> None:
        """Nothing is started before there is work, so that a process may still fork.

        Args:
            on_overdue: Called when work that nobody waits for any more goes on beyond its time. A
                thread cannot be stopped; the process that it lives in can.
        """
        self._n_threads = n_threads
        self._limit = n_threads + n_waiting
        self._on_overdue = on_overdue
        self._n_in_hand = 0
        self._n_started = 0
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._iteration_began: float | None = None  # None where nothing was done inline in it
        self._waiting_inline: deque[_InlineJob] = deque()
        self._to_refuse: deque[asyncio.Future[None]] = deque()

    def has_time(self) -> bool:
        """Whether inline work need not wait for a later iteration of the event loop."""
        if self._iteration_began is None:
            self._iteration_began = time.monotonic()
            asyncio.get_running_loop().call_soon(self._next_iteration)
            return True
        is_free = not self._waiting_inline
        return is_free and time.monotonic() - self._iteration_began < _INLINE_SECONDS

    async def run_inline(self, work: Callable[[], T]) -> T:
        """Do `work` on the event loop, in a later iteration where `has_time` is false.

        Pings are answered and connections accepted between the iterations.

        Raises:
            OverloadedError: more than may wait is waiting for the loop, and this came last.
        """
        if self.has_time():
            return work()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting_inline.append(_InlineJob(future, work))
        try:
            return await future
        finally:
            del future  # as in `run`

    async def run(
        self,
        work: Callable[[], T],
        *,
        has_begun: bool = False,
        seconds: float | None = None,
        after: Callable[[], None] = _nothing,
    ) -> T:
        """Do `work` in a thread.

        Args:
            work: Called at most once: not where whoever waited has gone before its turn.
            has_begun: It goes on with something that was admitted, and is never refused.
            seconds: What it may take once a thread has begun; None where it may take any time.
            after: Called once on the loop when no thread is or will be at it, which may be later
                than this returns.
        Raises:
            OverloadedError: as much as may wait is waiting for a thread.
        """
        if self._n_in_hand >= self._limit and not has_begun:
            after()
            await self._refuse()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._n_in_hand += 1
        job = _Job(loop, future, work, lambda: self._ended(after))
        future.add_done_callback(lambda _: self._left(loop, job, seconds))
        self._jobs.put(job)
        if self._n_started < min(self._n_threads, self._n_in_hand):
            self._n_started += 1
            threading.Thread(target=self._serve, daemon=True, name="invocation").start()
        try:
            return await future
        finally:
            del future  # else its exception, whose traceback holds this frame, would hold itself

    async def _refuse(self) -> NoReturn:
        """Raise `OverloadedError`, for a few calls in each iteration of the event loop."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._to_refuse.append(turn)
        if self._iteration_began is None:
            self._iteration_began = time.monotonic()
            loop.call_soon(self._next_iteration)
        await turn
        raise self._overloaded()

    def _next_iteration(self) -> None:
        """Do inline work for a while, and refuse a few of those that came last."""
        if not self._waiting_inline and not self._to_refuse:
            self._iteration_began = None
            return
        began = time.monotonic()
        n_done = 0
        while self._waiting_inline:
            self._waiting_inline.popleft().do()
            n_done += 1
            if time.monotonic() - began >= _INLINE_SECONDS:
                break
        n_excess = len(self._waiting_inline) - self._limit
        for _ in range(min(n_excess, max(n_done // _ANSWERS_PER_REFUSAL, 1))):
            self._waiting_inline.pop().refuse(self._overloaded())
        for _ in range(min(len(self._to_refuse), _REFUSALS_PER_ITERATION)):
            turn = self._to_refuse.popleft()
            if not turn.done():  # else the client has gone
                turn.set_result(None)
        if self._waiting_inline or self._to_refuse:
            self._iteration_began = began
            asyncio.get_running_loop().call_soon(self._next_iteration)
        else:
            self._iteration_began = None

    def _overloaded(self) -> OverloadedError:
        return OverloadedError("invocations in hand", self._limit, "BYOA_MAX_WAITING")

    def _ended(self, after: Callable[[], None]) -> None:
        self._n_in_hand -= 1
        after()

    def _left(self, loop: asyncio.AbstractEventLoop, job: "_Job", seconds: float | None) -> None:
        """Nobody waits for the job any more: it is done, or its client gone, or its time up."""
        job.give_up()
        if job.is_at_work and seconds is not None:
            loop.call_at(
                job.began + seconds, lambda: self._on_overdue() if job.is_at_work else None
            )

    def _serve(self) -> None:
        while True:
            self._jobs.get().do()


class _InlineJob(NamedTuple):
    """Work for the event loop."""

    future: "asyncio.Future[Any]"
    work: Callable[[], Any]

    def do(self) -> None:
        if self.future.done():  # the client has gone
            return
        try:
            self.future.set_result(self.work())
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self.future.set_exception(_as_plain(error))

    def refuse(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Job:
    """Work on its way through a thread, which lets go of all that it used before it says so.

    Whoever waits may free a model the moment it is told; what a thread still held would be freed
    only later, and its memory be missing from what `DELETE` says has been given back (C-085).
    """

    __slots__ = ("_ended", "_error", "_future", "_loop", "_result", "_work", "began", "is_at_work")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Any]",
        work: Callable[[], Any],
        ended: Callable[[], None],
    ) -> None:
        self.began = 0.0  # by the clock of the loop
        self.is_at_work = True  # until it has ended
        self._loop = loop
        self._future: asyncio.Future[Any] | None = future
        self._work = [work]  # whoever takes it out, the thread or `give_up`, has it
        self._ended = ended
        self._result: Any = None
        self._error: Exception | None = None

    def do(self) -> None:
        """Called in a thread; the future belongs to the loop and is only settled there."""
        self.began = time.monotonic()
        try:
            work = self._work.pop()
        except IndexError:  # nobody waits for it
            return
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - also SystemExit: it is the request that ends
            self._error = _as_plain(error)
        del work
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is leaving
            self._loop.call_soon_threadsafe(self._tell)

    def give_up(self) -> None:
        """See to it that no thread begins with it."""
        if self._work:
            with contextlib.suppress(IndexError):  # a thread was faster
                self._work.pop()
                self._end()

    def _tell(self) -> None:
        future, result, error = self._future, self._result, self._error
        self._end()
        if future is None or future.done():  # timed out, or the client has gone
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _end(self) -> None:
        self.is_at_work = False
        # The traceback of an error holds the frame of `do`, and so this object.
        self._future = self._result = self._error = None
        self._ended()


def _as_plain(error: BaseException) -> Exception:
    """A future takes neither what would end the process nor what would end a generator."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{error!r} was raised")
