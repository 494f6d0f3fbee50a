"""libsvm that counts from 1: one base for a job, whatever its channels, modes and hosts."""

import signal

from container import manifest
from tests.integration.train.conftest import run_stopped_while_reading
from tests.unit.train.conftest import Tree
from tests.unit.train.input.test_libsvm_base import interrupted, rows  # noqa: F401


def test_model_of_a_checkpoint_keeps_its_base(interrupted: Tree) -> None:
    """SIGTERM before any record is read saves a model that says what it was trained on (C-101,
    C-029).
    """
    finished = run_stopped_while_reading(interrupted)

    assert finished.returncode == 128 + signal.SIGTERM, finished.stderr
    described = manifest.read(interrupted.root / "model")
    assert described is not None
    assert described.libsvm_base == 1
