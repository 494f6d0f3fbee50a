"""Misbehaviour of plug-in algorithms, after which the job ends as the platform expects."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.train.conftest import Tree

ROOT = Path(__file__).parents[3]


SIGNALLED_WHILE_READING = textwrap.dedent(
    """
    import os, signal, sys
    from train import job
    from train.input import record_store
    from train.input.parsing import chunks
    chunks.CHUNK_BYTES = record_store._JOINED_BYTES = 1000

    from container.algorithms.xgboost.training import matrices
    feed = matrices._BatchIterator.next
    count = 0
    def next_batch(self, input_data):
        global count
        count += 1
        if count == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGTERM)
        return feed(self, input_data)
    matrices._BatchIterator.next = next_batch
    sys.exit(job.main({"SAGEMAKER_BASE_DIR": sys.argv[1]}))
    """
)


@pytest.mark.parametrize("n_batches", [1, 3, 30, 90])
def test_sigterm_inside_a_callback_of_the_library_ends_the_job_cleanly(
    cancer: Tree, n_batches: int
) -> None:
    """While XGBoost asks for batches, nothing may be raised into its face (C-029, C-030)."""
    finished = subprocess.run(
        [sys.executable, "-c", SIGNALLED_WHILE_READING, str(cancer.root), str(n_batches)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert finished.returncode == 128 + signal.SIGTERM, finished.stderr
    assert cancer.model_files == []
    assert cancer.failure == ""
    assert "sigterm_received" in finished.stdout
