"""Writing of the access log's lines."""

import asyncio
import json
import select

import pytest

from serve.http.access_log import Observation, Observer


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """Collects each write to standard output."""
    caplog.set_level("INFO")
    made: list[bytes] = []
    monkeypatch.setattr("container.logs.write_lines", made.append)
    return made


def _seen(name: str) -> Observation:
    return Observation(name, "text/csv", status=200)


def _ids(written: bytes) -> list[str]:
    return [json.loads(line)["request_id"] for line in written.splitlines()]


def test_lines_of_one_turn_of_the_loop_are_written_together(writes: list[bytes]) -> None:
    """Written in the same event loop iteration, not later."""
    observer = Observer(None)

    async def two_turns() -> None:
        for turn in range(2):
            for index in range(3):
                observer.record(_seen(f"{turn}-{index}"))
            assert len(writes) == turn
            await asyncio.sleep(0)
            assert len(writes) == turn + 1

    asyncio.run(two_turns())

    assert [_ids(write) for write in writes] == [["0-0", "0-1", "0-2"], ["1-0", "1-1", "1-2"]]


def test_no_write_is_larger_than_a_pipe_takes_whole(writes: list[bytes]) -> None:
    """No write is larger than a pipe takes in one piece: lines of workers do not mix (C-008)."""
    observer = Observer(None)

    async def many() -> None:
        for index in range(100):
            observer.record(_seen(str(index)))

    asyncio.run(many())

    assert max(map(len, writes)) <= select.PIPE_BUF
    assert len(writes) < 20
    assert _ids(b"".join(writes)) == [str(index) for index in range(100)]


def test_failure_comes_after_what_went_before(
    writes: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Errors, which go through logging, keep their place among the other lines."""
    observer = Observer(None)

    async def fail() -> None:
        observer.record(_seen("good"))
        failed = _seen("bad")
        failed.status, failed.error = 500, ValueError("no")
        observer.record(failed)
        assert [_ids(write) for write in writes] == [["good"]]

    asyncio.run(fail())

    assert [record.message for record in caplog.records] == ["invocation"]


def test_without_a_loop_lines_are_written_at_once(writes: list[bytes]) -> None:
    """Without an event loop, as in multi-model-server, each line is written at once."""
    Observer(None).record(_seen("alone"))

    assert [_ids(write) for write in writes] == [["alone"]]
