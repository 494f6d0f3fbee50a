"""The arbiter's handling of workers that exit, in separate processes."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]
# Workers exit as the arguments say; the third of those that were ready stops the server.
SCRIPT = """
    import mmap, os, signal, sys
    from gunicorn.app.base import BaseApplication
    from serve.gunicorn.arbiter import InferenceArbiter
    from serve.gunicorn.inference_worker import InferenceWorker
    from serve.gunicorn.placeholder import Placeholder

    exit_code, is_ready = int(sys.argv[1]), sys.argv[2] == "ready"
    spawned = mmap.mmap(-1, 1)

    class Ending(InferenceWorker):
        async def _serve(self):
            spawned[0] += 1
            if is_ready and spawned[0] == 3:
                os.kill(os.getppid(), signal.SIGQUIT)
                os._exit(0)
            self._ready[0] = is_ready
            os._exit(exit_code)

    class Application:
        def close(self):
            return None

    def introduce(server, worker):
        worker.placeholder = server.placeholder

    def reaped(server, worker):
        server.worker_exited(worker)

    class Server(BaseApplication):
        def load_config(self):
            for name, value in {
                "bind": "127.0.0.1:0", "worker_class": Ending, "workers": 1,
                "control_socket_disable": True, "pre_fork": introduce, "child_exit": reaped,
            }.items():
                self.cfg.set(name, value)
        def load(self):
            return lambda retire: Application()

    try:
        InferenceArbiter(Server(), Placeholder()).run()
    finally:
        print(spawned[0])
"""


def ended(*arguments: str) -> tuple[int, int]:
    """Run the server; return its exit code and the number of its workers."""
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return finished.returncode, int(finished.stdout)


@pytest.mark.parametrize("exit_code", [1, 3, 4])
def test_worker_that_could_serve_is_replaced_whatever_it_exits_with(exit_code: int) -> None:
    """Model code that ends its process does not end the container (C-089)."""
    assert ended(str(exit_code), "ready") == (0, 3)


@pytest.mark.parametrize("exit_code", [3, 4])
def test_worker_that_fails_to_start_ends_the_server(exit_code: int) -> None:
    """A worker that exits with gunicorn's codes for a failed start stops the server at once."""
    assert ended(str(exit_code), "never") == (exit_code, 1)


@pytest.mark.parametrize("exit_code", [0, 1, 9])
def test_server_gives_up_after_three_workers_that_were_never_ready(exit_code: int) -> None:
    """Three in a row: no hot loop of starts (C-063)."""
    assert ended(str(exit_code), "never") == (3, 3)
