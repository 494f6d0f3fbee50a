"""What the arbiter does when workers end, in processes of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]
# Two workers end as they are told to; the third has the server end.
SCRIPT = """
    import mmap, os, signal, sys
    from gunicorn.app.base import BaseApplication
    from serve.gunicorn.arbiter import InferenceArbiter
    from serve.gunicorn.inference_worker import InferenceWorker
    from serve.gunicorn.placeholder import StandIn

    exit_code, is_ready = int(sys.argv[1]), sys.argv[2] == "ready"
    born = mmap.mmap(-1, 1)

    class Ending(InferenceWorker):
        async def _serve(self):
            born[0] += 1
            if born[0] == 3:
                os.kill(os.getppid(), signal.SIGQUIT)
            elif is_ready:
                self._ready[0] = 1
            os._exit(exit_code if born[0] < 3 else 0)

    class Application:
        def close(self):
            return None

    def introduce(server, worker):
        worker.stand_in = server.stand_in

    def bury(server, worker):
        server.worker_died(worker)

    class Server(BaseApplication):
        def load_config(self):
            for name, value in {
                "bind": "127.0.0.1:0", "worker_class": Ending, "workers": 1,
                "control_socket_disable": True, "pre_fork": introduce, "child_exit": bury,
            }.items():
                self.cfg.set(name, value)
        def load(self):
            return lambda retire: Application()

    try:
        InferenceArbiter(Server(), StandIn()).run()
    finally:
        print(born[0])
"""


def ended(*arguments: str) -> tuple[int, int]:
    """The server's exit code, and how many workers it had."""
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
    """C-089: a model's code that ends its process does not end the container."""
    assert ended(str(exit_code), "ready") == (0, 3)


@pytest.mark.parametrize("exit_code", [3, 4])
def test_worker_that_fails_to_start_ends_the_server(exit_code: int) -> None:
    """By gunicorn's codes for it, at once."""
    assert ended(str(exit_code), "never") == (exit_code, 1)
