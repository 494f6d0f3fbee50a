"""The worker's handling of signals, in separate processes, and of free memory."""

import asyncio
import logging
import os
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.workers.gasgi import ASGIWorker

from container import allocator
from serve.gunicorn import inference_worker
from serve.gunicorn.inference_worker import InferenceWorker
from serve.gunicorn.placeholder import Placeholder
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[InferenceWorker]:
    """A worker in this process, whose signal handlers stay pytest's."""
    monkeypatch.setattr(ASGIWorker, "init_signals", lambda worker: None)
    worker = InferenceWorker(0, os.getppid(), [], None, 30, Config(), logging.getLogger())
    yield worker
    worker.tmp.close()


def test_free_memory_is_returned_again_and_again(
    worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker returns the peak memory of a busy minute to the system."""
    monkeypatch.setattr(inference_worker, "_HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(inference_worker, "_TRIM_SECONDS", 0.01)
    worker.placeholder = Placeholder()
    n_trims = 0

    def release_free_memory() -> None:
        nonlocal n_trims
        n_trims += 1
        worker.alive = n_trims < 3

    monkeypatch.setattr(allocator, "release_free_memory", release_free_memory)

    async def serve() -> None:
        worker.loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):  # it serves until it is told to leave
            await worker._serve()

    asyncio.run(serve())

    assert n_trims >= 3


@pytest.mark.parametrize(("took", "wait"), [(0.001, 5.0), (0.05, 50.0)])
def test_heap_that_is_slow_to_trim_is_trimmed_less_often(
    worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch, took: float, wait: float
) -> None:
    """A trim delays requests: together the trims take a thousandth of the time."""
    worker.loop = Mock(asyncio.AbstractEventLoop)
    worker.loop.time.side_effect = [0.0, took]
    monkeypatch.setattr(allocator, "release_free_memory", lambda: None)

    worker._trim()

    worker.loop.call_later.assert_called_once_with(pytest.approx(wait), worker._trim)
