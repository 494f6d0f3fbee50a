"""The fixtures of `tests/unit/train`, and a job in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.unit.train.conftest import Tree, cancer, records, tree

__all__ = ["cancer", "records", "run_stopped_while_reading", "tree"]

_STOPPED_WHILE_READING = textwrap.dedent(
    """
    import os, signal, sys, time
    from train import job
    from train.input.channel import StoredChannel

    def batches(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        raise AssertionError("nobody has stopped it")

    StoredChannel.batches = batches
    sys.exit(job.main({"SAGEMAKER_BASE_DIR": sys.argv[1]}))
    """
)


def run_stopped_while_reading(tree: Tree) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own that gets SIGTERM when it begins to read records."""
    return subprocess.run(
        [sys.executable, "-c", _STOPPED_WHILE_READING, str(tree.root)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
