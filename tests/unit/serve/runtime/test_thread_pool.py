"""The bounded thread pool, and inline work on the event loop."""

import asyncio
import threading
import weakref
from collections.abc import Callable

import pytest

from container.errors import OverloadedError
from serve.runtime.thread_pool import ThreadPool
from tests.waiting import PATIENCE_SECONDS


class Thing:
    """An object whose last reference a test can observe."""


@pytest.mark.parametrize("fails", [False, True])
def test_thread_holds_nothing_any_more_once_it_has_answered(fails: bool) -> None:
    """No thread refers to the work or its result once the caller has the result (C-085)."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        may_go_on = threading.Event()
        tell = loop.call_soon_threadsafe

        def tell_slowly(*arguments: object) -> None:
            tell(*arguments)  # type: ignore[arg-type]
            assert may_go_on.wait(PATIENCE_SECONDS)

        loop.call_soon_threadsafe = tell_slowly  # type: ignore[assignment,method-assign]
        thing, made = Thing(), Thing()
        references = [weakref.ref(thing), weakref.ref(made)]

        def work(used: Thing = thing, makes: Thing = made) -> Thing:
            if fails:
                raise ValueError(repr(used))
            return makes

        running = ThreadPool(n_threads=1, n_waiting=0).run(work)
        del thing, made, work
        try:
            await running
        except ValueError:
            assert fails
        await asyncio.sleep(0)  # asyncio's own step, which holds the future, is over
        assert [reference() for reference in references] == [None, None]
        may_go_on.set()

    asyncio.run(scenario())


def _capacity() -> ThreadPool:
    return ThreadPool(n_threads=1, n_waiting=1)


def test_inline_work_leaves_each_iteration_of_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Inline work beyond an iteration's time runs in the next ones, in order (C-045)."""
    monkeypatch.setattr("serve.runtime.thread_pool._INLINE_SECONDS", 0)
    seen: list[str] = []

    async def other() -> None:
        while len(seen) < 6:
            seen.append("ping")
            await asyncio.sleep(0)

    async def scenario() -> None:
        capacity = _capacity()
        assert capacity.has_time()
        assert not capacity.has_time()
        works = [capacity.run_inline(lambda name=name: seen.append(name)) for name in "abc"]
        await asyncio.gather(*works, other())

    asyncio.run(scenario())

    assert [name for name in seen if name != "ping"] == ["a", "b", "c"]
    first, last = seen.index("a"), seen.index("c")
    assert seen[first : last + 1].count("ping") >= 2


def test_idle_loop_does_inline_work_at_once() -> None:
    """Inline work of an idle server runs at once."""

    async def scenario() -> None:
        capacity = _capacity()
        for _ in range(3):
            with pytest.raises(StopIteration, match="7"):
                capacity.run_inline(lambda: 7).send(None)
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_inline_work_beyond_the_limit_is_refused_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few are refused in each iteration: refusals leave time for answers (C-048)."""
    monkeypatch.setattr("serve.runtime.thread_pool._INLINE_SECONDS", 0)

    async def scenario() -> list[object]:
        capacity = _capacity()
        assert capacity.has_time()
        works = [capacity.run_inline(lambda number=number: number) for number in range(20)]
        return await asyncio.gather(*works, return_exceptions=True)

    done = asyncio.run(scenario())

    n_refused = sum(isinstance(result, OverloadedError) for result in done)
    assert n_refused > 5
    assert done[:-n_refused] == list(range(20 - n_refused))


def test_inline_work_of_a_client_that_has_gone_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cancelled caller frees its place in the queue, and errors reach only their callers."""
    monkeypatch.setattr("serve.runtime.thread_pool._INLINE_SECONDS", 0)
    done: list[str] = []

    def fail() -> None:
        raise ValueError("mine")

    async def scenario() -> list[object]:
        capacity = _capacity()
        assert capacity.has_time()
        works: list[Callable[[], None]] = [fail, lambda: done.append("gone"), lambda: None]
        tasks = [asyncio.ensure_future(capacity.run_inline(work)) for work in works]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    failed, cancelled, result = asyncio.run(scenario())

    assert isinstance(failed, ValueError)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert result is None
    assert done == []


def test_refusals_of_the_line_before_the_threads_leave_the_loop_to_others() -> None:
    """Clients that retry at once do not delay a ping (C-045)."""
    may_end = threading.Event()
    n_refused_at_a_ping: list[int] = []

    async def scenario() -> None:
        capacity = _capacity()
        works = [asyncio.ensure_future(capacity.run(may_end.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = [asyncio.ensure_future(capacity.run(may_end.wait)) for _ in range(100)]
        while not all(task.done() for task in refused):
            await asyncio.sleep(0)
            n_refused_at_a_ping.append(sum(task.done() for task in refused))
        may_end.set()
        assert await asyncio.gather(*works) == [True, True]
        assert all(isinstance(task.exception(), OverloadedError) for task in refused)

    asyncio.run(scenario())

    steps = zip([0, *n_refused_at_a_ping], n_refused_at_a_ping, strict=False)
    assert max(after - before for before, after in steps) < 50
