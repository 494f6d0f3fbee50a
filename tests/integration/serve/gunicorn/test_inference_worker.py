"""The worker's handling of signals, in separate processes, and of free memory."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
