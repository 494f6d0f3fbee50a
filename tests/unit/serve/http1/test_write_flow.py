"""Clients that do not read their answers."""

import asyncio
from typing import cast

import pytest

from serve.http1 import write_flow
from serve.http1.write_flow import WriteFlow
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


def _paused(transport: SlowlyRead) -> WriteFlow:
    flow = WriteFlow(asyncio.get_running_loop(), cast(asyncio.Transport, transport))
    flow.pause()
    return flow


@pytest.mark.parametrize(
    ("sizes", "is_aborted"), [([100, 100], True), ([100, 60, 60], True), ([100, 60, 30], False)]
)
def test_client_that_takes_nothing_of_its_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], is_aborted: bool
) -> None:
    """A client that reads something in each interval, however slowly, stays connected."""
    monkeypatch.setattr(write_flow, "_UNREAD_SECONDS", 0.05)
    transport = SlowlyRead(sizes)

    async def scenario() -> None:
        flow = _paused(transport)
        await until(lambda: not transport.sizes)
        flow.resume()

    asyncio.run(scenario())

    assert transport.is_aborted == is_aborted


def test_client_that_has_caught_up_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer is cancelled."""
    monkeypatch.setattr(write_flow, "_UNREAD_SECONDS", 0.01)
    transport = SlowlyRead([100, 50])

    async def scenario() -> None:
        _paused(transport).resume()
        await asyncio.sleep(0.03)

    asyncio.run(scenario())

    assert transport.sizes == [50]


def test_every_writer_waits_until_the_buffer_is_read() -> None:
    """Several writers, one of them cancelled."""
    ended: list[int] = []

    async def scenario() -> None:
        flow = _paused(SlowlyRead([100]))

        async def write(number: int) -> None:
            await flow.drained()
            ended.append(number)

        writers = [asyncio.create_task(write(number)) for number in range(3)]
        await asyncio.sleep(0)
        writers[1].cancel()
        assert ended == []
        flow.resume()
        await asyncio.gather(*writers, return_exceptions=True)
        await flow.drained()  # nothing to wait for

    asyncio.run(scenario())

    assert ended == [0, 2]
