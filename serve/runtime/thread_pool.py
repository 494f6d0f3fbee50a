"""Bounded thread pool: backpressure for the work that would block the event loop.

Work beyond the threads waits in a bounded queue, and work beyond the queue is refused with
`OverloadedError`. Quick work runs inline on the event loop, for a limited time in each iteration.

The threads are daemon threads instead of a `ThreadPoolExecutor`. The executor waits for its threads
when the process exits, and a model that hangs would keep its worker from being replaced.
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

# Limit of inline work in one event loop iteration; the ping of a new connection takes four.
_INLINE_SECONDS = 0.01
# A refusal costs a quarter of an answer, and clients that retry at once would take all CPU time.
_ANSWERS_PER_REFUSAL = 8
_REFUSALS_PER_ITERATION = 16


def _nothing() -> None:
    """Do nothing."""


class ThreadPool:
    """The thread pool of one worker, with its bounded queue; used on its event loop only."""

    def __init__(
        self, *, n_threads: int, n_waiting: int, on_overdue: Callable[[], None] = _nothing
    ) -> None:
        """Start no thread yet, so that the process may still fork.

        Args:
            n_threads: The largest number of threads.
            n_waiting: The size of the queue before them, and of the queue for inline work.
            on_overdue: Called when work that was given up runs beyond its time limit. A thread
                cannot be stopped, but its process can.
        """
        self._n_threads = n_threads
        self._limit = n_threads + n_waiting
        self._on_overdue = on_overdue
        self._n_admitted = 0
        self._n_started = 0
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._iteration_began: float | None = None  # None before inline work
        self._waiting_inline: deque[_InlineJob] = deque()
        self._to_refuse: deque[asyncio.Future[None]] = deque()

    def has_time(self) -> bool:
        """True if inline work need not wait for a later iteration of the event loop."""
        if self._iteration_began is None:
            self._iteration_began = time.monotonic()
            asyncio.get_running_loop().call_soon(self._next_iteration)
            return True
        is_free = not self._waiting_inline
        return is_free and time.monotonic() - self._iteration_began < _INLINE_SECONDS

    async def run_inline(self, work: Callable[[], T]) -> T:
        """Run `work` on the event loop, in a later iteration if `has_time` is false.

        Pings are answered and connections accepted between the iterations.

        Raises:
            OverloadedError: the queue is full; the last arrivals are refused.
        """
        if self.has_time():
            return work()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting_inline.append(_InlineJob(future, work))
        try:
            return await future
        finally:
            del future  # breaks a reference cycle, as in `run`

    async def run(
        self,
        work: Callable[[], T],
        *,
        has_begun: bool = False,
        seconds: float | None = None,
        after: Callable[[], None] = _nothing,
    ) -> T:
        """Run `work` in a thread.

        Args:
            work: Called at most once; not at all if the caller is cancelled before a thread begins.
            has_begun: True if it continues admitted work, e.g. a stream: it is never refused.
            seconds: Its time limit from its begin in a thread; None for no limit.
            after: Called once on the event loop when no thread runs or will run the work. This may
                be after the return, if the caller is cancelled.
        Raises:
            OverloadedError: the queue is full.
        """
        if self._n_admitted >= self._limit and not has_begun:
            after()
            await self._refuse()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._n_admitted += 1
        job = _Job(loop, future, work, lambda: self._ended(after))
        future.add_done_callback(lambda _: self._give_up(loop, job, seconds))
        self._jobs.put(job)
        if self._n_started < min(self._n_threads, self._n_admitted):
            self._n_started += 1
            threading.Thread(target=self._serve, daemon=True, name="invocation").start()
        try:
            return await future
        finally:
            # An exception of the future refers to this frame by its traceback, and this frame to
            # the future: without `del` the cycle keeps the request in memory.
            del future

    async def _refuse(self) -> NoReturn:
        """Raise `OverloadedError`, for a few callers in each iteration of the event loop."""
        loop = asyncio.get_running_loop()
        may_refuse: asyncio.Future[None] = loop.create_future()
        self._to_refuse.append(may_refuse)
        if self._iteration_began is None:
            self._iteration_began = time.monotonic()
            loop.call_soon(self._next_iteration)
        await may_refuse
        raise self._overloaded()

    def _next_iteration(self) -> None:
        """Run inline work for a while, and refuse a few of the last arrivals."""
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
            may_refuse = self._to_refuse.popleft()
            if not may_refuse.done():  # else the client has disconnected
                may_refuse.set_result(None)
        if self._waiting_inline or self._to_refuse:
            self._iteration_began = began
            asyncio.get_running_loop().call_soon(self._next_iteration)
        else:
            self._iteration_began = None

    def _overloaded(self) -> OverloadedError:
        return OverloadedError("invocations running or waiting", self._limit, "BYOA_MAX_WAITING")

    def _ended(self, after: Callable[[], None]) -> None:
        self._n_admitted -= 1
        after()

    def _give_up(self, loop: asyncio.AbstractEventLoop, job: "_Job", seconds: float | None) -> None:
        """Handle a job without a caller: it has ended, or its client or its time is gone."""
        job.give_up()
        if job.is_running and seconds is not None:
            loop.call_at(
                job.began + seconds, lambda: self._on_overdue() if job.is_running else None
            )

    def _serve(self) -> None:
        while True:
            self._jobs.get().do()


class _InlineJob(NamedTuple):
    """Work for the event loop."""

    future: "asyncio.Future[Any]"
    work: Callable[[], Any]

    def do(self) -> None:
        if self.future.done():  # the client has disconnected
            return
        try:
            self.future.set_result(self.work())
        except Exception as error:  # noqa: BLE001 - raised in the caller
            self.future.set_exception(_as_plain(error))

    def refuse(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Job:
    """Work for a thread, which drops all references to the work before it reports the end.

    The caller may free a model as soon as the result is there. A reference in the thread would keep
    the model in memory for a moment, after `DELETE` has reported its memory as free (C-085).
    """

    __slots__ = ("_ended", "_error", "_future", "_loop", "_result", "_work", "began", "is_running")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Any]",
        work: Callable[[], Any],
        ended: Callable[[], None],
    ) -> None:
        self.began = 0.0  # by the clock of the loop
        self.is_running = True  # False after the end
        self._loop = loop
        self._future: asyncio.Future[Any] | None = future
        self._work = [work]  # removed by the thread, or by `give_up`, whichever is first
        self._ended = ended
        self._result: Any = None
        self._error: Exception | None = None

    def do(self) -> None:
        """Run the work in a thread. The future belongs to the event loop and is settled there."""
        self.began = time.monotonic()
        try:
            work = self._work.pop()
        except IndexError:  # it was given up
            return
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - also SystemExit, which ends one request only
            self._error = _as_plain(error)
        del work
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process exits
            self._loop.call_soon_threadsafe(self._settle)

    def give_up(self) -> None:
        """Prevent a thread from beginning the work, if none has begun it."""
        if self._work:
            with contextlib.suppress(IndexError):  # a thread was faster
                self._work.pop()
                self._end()

    def _settle(self) -> None:
        future, result, error = self._future, self._result, self._error
        self._end()
        if future is None or future.done():  # timed out, or the client has disconnected
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _end(self) -> None:
        self.is_running = False
        # The traceback of an error refers to the frame of `do`, and so to this object.
        self._future = self._result = self._error = None
        self._ended()


def _as_plain(error: BaseException) -> Exception:
    """Wrap exceptions that a future does not accept: of process exit, and `StopIteration`."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{error!r} was raised")
