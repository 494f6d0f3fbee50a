"""pip, run by a job that gets SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.unit.train.conftest import Tree
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]


def test_sigterm_while_pip_waits_for_an_index_ends_the_job(tree: Tree) -> None:
    """Neither does the script start, nor is there a failure (C-029)."""
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        silent_index.settimeout(PATIENCE_SECONDS)
        url = f"http://127.0.0.1:{silent_index.getsockname()[1]}/"
        requirements = f"--index-url {url}\nno-such-package-of-anybody\n"
        script = b"import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').close()"
        tree.channel("code", {"train.py": script, "requirements.txt": requirements.encode()})
        tree.configure("hyperparameters.json", {"sagemaker_program": "train.py"})
        variables = {
            name: value for name, value in os.environ.items() if "proxy" not in name.lower()
        }
        with subprocess.Popen(
            [sys.executable, "-m", "container", "train"],
            env=variables | {"PYTHONPATH": str(ROOT)} | tree.environ,
        ) as job:
            connection, _ = silent_index.accept()
            with connection:
                job.send_signal(signal.SIGTERM)
                assert job.wait(PATIENCE_SECONDS) == 143

    assert tree.failure == ""
    assert tree.model_files == []
