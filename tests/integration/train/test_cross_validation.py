"""K-fold jobs: models, scores and files, against scikit-learn and XGBoost called directly."""

import signal

import pytest

from tests.integration.train.conftest import run_stopped_while_reading
from tests.unit.train.conftest import Tree
from tests.unit.train.test_cross_validation import _die_in, _models, folds  # noqa: F401
from train import job


def test_resumed_cross_validation_that_is_stopped_while_reading_leaves_its_models(
    folds: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of its checkpoint, as a job without folds does (C-029, C-032)."""
    (folds.root / "checkpoints").mkdir()

    def die() -> None:
        raise ConnectionAbortedError("the machine is gone")

    with monkeypatch.context() as patch:
        _die_in(patch, 10, die)  # in the third fold
        assert job.main(folds.environ) == 1
    (folds.root / "output" / "failure").unlink()

    finished = run_stopped_while_reading(folds)

    assert finished.returncode == 128 + signal.SIGTERM, finished.stderr
    assert [model.num_boosted_rounds() for model in _models(folds)] == [4, 4]
    assert folds.failure == ""
