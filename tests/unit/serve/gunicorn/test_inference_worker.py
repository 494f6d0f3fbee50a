"""The worker's handling of signals, in separate processes, and of free memory."""

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.workers.gasgi import ASGIWorker

from container import allocator
from serve.gunicorn import inference_worker
from serve.gunicorn.inference_worker import InferenceWorker
from serve.gunicorn.placeholder import Placeholder
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("step", ["init_process", "run"])
def test_sigterm_while_a_worker_is_spawned_is_not_lost(step: str) -> None:
    """A worker that gets SIGTERM before its event loop runs exits at once (C-062)."""
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        from gunicorn.app.base import BaseApplication
        from serve.gunicorn.arbiter import InferenceArbiter
        from serve.gunicorn.inference_worker import InferenceWorker
        from serve.gunicorn.placeholder import Placeholder

        def introduce(server, worker):
            worker.placeholder = server.placeholder

        def stop_before(step):
            def stop_and_go_on(worker):
                os.kill(os.getppid(), signal.SIGTERM)
                time.sleep(1)  # the arbiter passes SIGTERM on in this second
                getattr(InferenceWorker, step)(worker)
            return stop_and_go_on

        Stopped = type("Stopped", (InferenceWorker,), {sys.argv[1]: stop_before(sys.argv[1])})

        class Draining:
            def begin_drain(self):
                return True
            async def drained(self):
                return None
            def close(self):
                return None

        class Server(BaseApplication):
            def load_config(self):
                for name, value in {
                    "bind": "127.0.0.1:0", "worker_class": Stopped, "workers": 1,
                    "graceful_timeout": int(sys.argv[2]), "pre_fork": introduce,
                    "control_socket_disable": True,
                }.items():
                    self.cfg.set(name, value)
            def load(self):
                return lambda retire: Draining()

        InferenceArbiter(Server(), Placeholder()).run()
        """
    )

    finished = subprocess.run(
        [sys.executable, "-c", script, step, str(int(2 * PATIENCE_SECONDS))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr


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
