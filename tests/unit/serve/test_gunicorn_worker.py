"""What the worker does with signals, and with a client that does not read its answer."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve import gunicorn_worker
from serve.gunicorn_worker import Connection

ROOT = Path(__file__).parents[3]


def test_sigterm_during_a_workers_birth_is_not_lost() -> None:
    """C-062: the worker that gets it before it has handlers still leaves, and at once."""
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        from gunicorn.app.base import BaseApplication
        from serve.arbiter import InferenceArbiter
        from serve.gunicorn_worker import InferenceWorker
        from serve.stand_in import StandIn

        def introduce(server, worker):
            worker.stand_in = server.stand_in

        class SlowToStart(InferenceWorker):
            def init_process(self):
                time.sleep(1)  # the arbiter gets SIGTERM and passes it on in this second
                super().init_process()

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
                    "bind": "127.0.0.1:0", "worker_class": SlowToStart, "workers": 1,
                    "graceful_timeout": 20, "control_socket_disable": True, "pre_fork": introduce,
                }.items():
                    self.cfg.set(name, value)
            def load(self):
                return lambda retire: Draining()

        if os.fork() == 0:
            time.sleep(0.5)
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        InferenceArbiter(Server(), StandIn()).run()
        """
    )

    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr


class SlowlyRead:
    """A transport whose client takes what the test says each time that somebody looks."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = iter(sizes)
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return next(self._sizes)

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
    connection = Connection(worker)  # type: ignore[arg-type]
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
    """PITFALLS 78: as long as it takes something, however slowly, it is waited for."""
    monkeypatch.setattr(gunicorn_worker, "_UNREAD_SECONDS", 0.05)
    transport = SlowlyRead(sizes)
    connection = _paused(loop, transport)

    loop.run_until_complete(asyncio.sleep(0.05 * (len(sizes) - 1) + 0.02))
    connection.resume_writing()

    assert transport.is_aborted == is_aborted


def test_client_that_has_caught_up_is_not_watched(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one that has gone."""
    monkeypatch.setattr(gunicorn_worker, "_UNREAD_SECONDS", 0.01)
    transport = SlowlyRead([100, 50])
    _paused(loop, transport).resume_writing()
    _paused(loop, transport).connection_lost(None)

    loop.run_until_complete(asyncio.sleep(0.03))

    assert not transport.is_aborted
