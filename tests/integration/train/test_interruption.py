"""Effect of SIGTERM at each stage of a job, in processes of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import xgboost

from tests.unit.train.conftest import Tree
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[3]

# A plug-in whose `fit` is stuck, as in a round of XGBoost that takes minutes.
STUCK = textwrap.dedent(
    """
    import os, pathlib, sys, time
    from pydantic import BaseModel
    from container.algorithms import registry
    from container.algorithms.contract import Algorithm
    from container.manifest import Framework, ModelFacts
    from train import interruption, job

    interruption.GRACE_SECONDS = 0.5
    stage = sys.argv[2]

    class Model:
        def __init__(self, text):
            self.text = text
        def save(self, directory):
            if self.text == "too large":
                raise OSError(28, "No space left on device")
            if self.text == "slow":
                print("saving", flush=True)
                time.sleep(2)
            (directory / "model").write_text(self.text)
            return ModelFacts(framework=Framework(name="none", version="1"), n_features=1)
        def importances(self):
            return {}

    class Hyperparameters(BaseModel):
        num_round: int

    class Plugin(Algorithm):
        name = "plugin"
        def hyperparameters(self):
            return Hyperparameters
        def load(self, directory, manifest, options):
            raise NotImplementedError
        def fit(self, job):
            if stage == "unwanted":
                job.interruption.leave_no_model()
            if stage in ("kept", "deferred", "too large", "unwanted"):
                job.interruption.keep(Model(stage))
            if stage in ("deferred", "empty", "too large", "looking"):
                job.interruption.defer()
            print("fitting", flush=True)
            while stage != "slow" and not (stage == "looking" and job.interruption.was_requested):
                time.sleep(0.01 if stage == "looking" else 60)
            return Model(stage)

    registry.get = lambda name: Plugin()
    sys.exit(job.main({"SAGEMAKER_BASE_DIR": sys.argv[1]}))
    """
)


@pytest.mark.parametrize(
    ("stage", "signalled_at", "saved"),
    [
        ("nothing", "fitting", None),
        ("kept", "fitting", "kept"),
        ("deferred", "fitting", "deferred"),
        ("empty", "fitting", None),
        ("unwanted", "fitting", None),
        ("too large", "fitting", None),
        ("looking", "fitting", "looking"),
        ("slow", "saving", "slow"),
    ],
)
def test_sigterm_at_each_stage(
    tree: Tree, stage: str, signalled_at: str, saved: str | None
) -> None:
    """Saves finished rounds once, however busy the main thread is (C-029, C-107)."""
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"1,2\n0,3\n"})
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(tree.root), stage],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process:
        while signalled_at not in process.stdout.readline():
            assert process.poll() is None
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=PATIENCE_SECONDS)[0]

    assert process.returncode == 143, output
    assert time.monotonic() - started < 50  # it would go on for 60
    if saved is None:
        assert tree.model_files == []
    else:
        assert (tree.root / "model" / "model").read_text() == saved
        assert tree.model_files == ["byoa-manifest.json", "model"]
    assert ("kept_model_not_saved" in output) == (stage == "too large")
    assert tree.failure == ""


SLOW_ROUNDS = textwrap.dedent(
    """
    import sys, time
    import xgboost
    from container.algorithms.xgboost.training import rounds as xgboost_boosting
    from train import interruption, job

    interruption.GRACE_SECONDS = 0.5
    xgboost_boosting._SLOW_ROUND_SECONDS = 0.1
    update = xgboost.Booster.update
    def slow_update(self, matrix, iteration):
        if iteration == 3:
            print("in the fourth round", flush=True)
        time.sleep(600 if iteration == 3 else 0.2)
        update(self, matrix, iteration=iteration)
    xgboost.Booster.update = slow_update
    sys.exit(job.main({"SAGEMAKER_BASE_DIR": sys.argv[1]}))
    """
)


def test_round_that_outlasts_the_grace_time_loses_no_finished_one(cancer: Tree) -> None:
    """The thread saves the three rounds that were finished (C-029)."""
    cancer.hyperparameters(num_round="10", objective="binary:logistic")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_ROUNDS, str(cancer.root)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        while "in the fourth round" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=PATIENCE_SECONDS)[0]

    assert process.returncode == 143, output
    content = bytearray((cancer.root / "model" / "xgboost-model").read_bytes())
    assert xgboost.Booster(model_file=content).num_boosted_rounds() == 3
