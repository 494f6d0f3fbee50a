"""Clients that do not read their answers, and connections that are closed."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from serve.gunicorn import protocol as connection_module
from serve.gunicorn.protocol import Connection
from tests.waiting import until


class SlowlyRead:
    """A transport whose write buffer has the given sizes, one for each look at it."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = list(sizes)
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0)

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _paused(loop: asyncio.AbstractEventLoop, transport: SlowlyRead) -> Connection:
    worker = SimpleNamespace(
        loop=loop, cfg=SimpleNamespace(), log=None, asgi=None, connections={}, nr_conns=1
    )
    connection = Connection(worker)
    connection.transport = transport
    connection.pause_writing()
    return connection


@pytest.mark.parametrize(
    ("sizes", "is_aborted"), [([100, 100], True), ([100, 60, 60], True), ([100, 60, 30], False)]
)
def test_client_that_takes_nothing_of_its_answer_is_cut_off(
    loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    is_aborted: bool,
) -> None:
    """A client that reads something in each interval, however slowly, stays connected."""
    monkeypatch.setattr(connection_module, "_UNREAD_SECONDS", 0.05)
    transport = SlowlyRead(sizes)
    connection = _paused(loop, transport)

    loop.run_until_complete(until(lambda: not transport.sizes))
    connection.resume_writing()

    assert transport.is_aborted == is_aborted


def test_client_that_has_caught_up_is_not_watched(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a client that has disconnected."""
    monkeypatch.setattr(connection_module, "_UNREAD_SECONDS", 0.01)
    transport = SlowlyRead([100, 50])
    _paused(loop, transport).resume_writing()
    _paused(loop, transport).connection_lost(None)

    loop.run_until_complete(asyncio.sleep(0.03))

    assert not transport.is_aborted


def test_closed_connection_is_freed_without_the_garbage_collector(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed connection has no reference cycles, which would stay until a full collection."""
    connection = _paused(loop, SlowlyRead([100]))
    connection._callback_parser = SimpleNamespace(on_body=connection.data_received)  # type: ignore[assignment]
    freed = weakref.ref(connection)

    gc.disable()
    try:
        connection.connection_lost(None)
        del connection
        loop.run_until_complete(asyncio.sleep(0))
        assert freed() is None
    finally:
        gc.enable()
