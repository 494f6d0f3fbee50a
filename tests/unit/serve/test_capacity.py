"""The threads that do what would hold up the event loop."""

import asyncio
import threading
import weakref

import pytest

from serve.capacity import Capacity


class Thing:
    """What can be looked for when nobody should hold it any more."""


@pytest.mark.parametrize("fails", [False, True])
def test_thread_holds_nothing_any_more_once_it_has_answered(fails: bool) -> None:
    """C-085: what was worked on is free as soon as whoever waited lets go of it, and so is the
    result, however slowly the thread comes back from saying so."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        may_go_on = threading.Event()
        tell = loop.call_soon_threadsafe

        def tell_slowly(*arguments: object) -> None:
            tell(*arguments)  # type: ignore[arg-type]
            assert may_go_on.wait(10)

        loop.call_soon_threadsafe = tell_slowly  # type: ignore[assignment,method-assign]
        thing, made = Thing(), Thing()
        references = [weakref.ref(thing), weakref.ref(made)]

        def work(used: Thing = thing, makes: Thing = made) -> Thing:
            if fails:
                raise ValueError(repr(used))
            return makes

        running = Capacity(n_threads=1, n_waiting=0).run(work)
        del thing, made, work
        try:
            await running
        except ValueError:
            assert fails
        await asyncio.sleep(0)  # asyncio's own step, which holds the future, is over
        assert [reference() for reference in references] == [None, None]
        may_go_on.set()

    asyncio.run(scenario())
