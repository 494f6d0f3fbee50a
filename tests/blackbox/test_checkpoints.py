"""Jobs that are stopped, killed and started again, by the rules of the platform."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.datasets import write_breast_cancer
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from tests.waiting import PATIENCE_SECONDS

N_ROUNDS = 150
# One thread: these tests wait for each other's processors, and OpenMP's threads wait by spinning.
SAMPLING = {
    "objective": "binary:logistic",
    "num_round": str(N_ROUNDS),
    "nthread": "1",
    "eta": "0.05",
    "subsample": "0.8",
    "colsample_bynode": "0.8",
    "seed": "5",
    "eval_metric": "logloss,f1",
}
DART = {
    "objective": "binary:logistic",
    "num_round": "60",
    "nthread": "1",
    "booster": "dart",
    "rate_drop": "0.2",
    "max_depth": "3",
    "eval_metric": "f1,logloss",
    "early_stopping_rounds": "20",
}
EVERY_ROUND = {"BYOA_CHECKPOINT_SECONDS": "0"}


def _tree(root: Path, backend: Backend, hyperparameters: dict[str, str]) -> MlTree:
    ml = MlTree(root)
    write_breast_cancer(ml)
    ml.write_hyperparameters(hyperparameters)
    ml.write_checkpoint_config(backend.path_inside(ml, ml.checkpoints_dir))
    return ml


def _run(backend: Backend, ml: MlTree) -> FinishedRun:
    return backend.run_training(ml, environment=EVERY_ROUND, timeout_seconds=120)


def _model(ml: MlTree) -> dict[str, bytes]:
    return {name: (ml.model_dir / name).read_bytes() for name in ml.model_files()}


def _metrics(ml: MlTree) -> Any:
    return json.loads((ml.output_data_dir / "metrics.json").read_bytes())


def _checkpoints(ml: MlTree) -> list[Path]:
    return sorted(ml.checkpoints_dir.glob("checkpoint-*"))


def _n_rounds(ml: MlTree) -> int:
    content = bytearray((ml.model_dir / "xgboost-model").read_bytes())
    return xgboost.Booster(model_file=content).num_boosted_rounds()


def _interrupt(backend: Backend, ml: MlTree, chance: random.Random) -> None:
    """Start the job and end it at some moment, gently or not; only checkpoints survive."""
    with backend.start_training(ml, environment=EVERY_ROUND) as job:
        if chance.random() < 0.8:
            job.wait_for_output("training_started", PATIENCE_SECONDS)
        time.sleep(chance.random() * 0.5)
        gently = chance.random() < 0.5
        job.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
        exit_code = job.wait(PATIENCE_SECONDS)
    assert exit_code in ((143, 0) if gently else (137, 0)), job.output()
    if exit_code == 143 and "\n[" in job.output():  # a round was finished
        assert ml.model_files() == ("byoa-manifest.json", "xgboost-model")
    if ml.model_files():
        assert 0 < _n_rounds(ml) <= N_ROUNDS
    ml.empty_outputs()


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("given", [SAMPLING, DART], ids=["sampling", "dart, early stopping"])
def test_job_that_is_interrupted_anywhere_ends_as_the_one_that_was_not(
    backend: Backend, tmp_path: Path, given: dict[str, str]
) -> None:
    """SIGTERM, SIGKILL, a truncated newest checkpoint and stray files, at moments drawn with a
    seed; in the end every byte of the model is the same, and so is every score (C-029 to C-033).
    """
    unbroken = _tree(tmp_path / "unbroken", backend, given)
    assert _run(backend, unbroken).exit_code == 0
    broken = _tree(tmp_path / "broken", backend, given)
    chance = random.Random(20)  # noqa: S311

    for _ in range(4):
        _interrupt(backend, broken, chance)
        if files := _checkpoints(broken):
            content = files[-1].read_bytes()
            files[-1].write_bytes(content[: chance.randrange(len(content))])
        (broken.checkpoints_dir / "checkpoint-77777777.bak").write_bytes(b"\x80\x04K*.")
    run = _run(backend, broken)

    assert run.exit_code == 0, run.output
    assert _model(broken) == _model(unbroken)
    assert _metrics(broken) == _metrics(unbroken)


@pytest.mark.canary
def test_resumed_job_falls_back_one_checkpoint_and_says_so(
    backend: Backend, tmp_path: Path
) -> None:
    """Names that sort, the newest three, the round that it goes on from (C-031 to C-033).

    There are four for a moment, since the oldest goes once the newest is whole.
    """
    ml = _tree(tmp_path / "ml", backend, SAMPLING)
    with backend.start_training(ml, environment=EVERY_ROUND) as job:
        job.wait_for_output("[20]\t", PATIENCE_SECONDS)
        job.send_signal(signal.SIGKILL)
        job.wait(PATIENCE_SECONDS)
    files = _checkpoints(ml)
    assert len(files) in (3, 4)
    numbers = [int(file.name.rpartition("-")[2]) for file in files]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 20
    files[-1].write_bytes(files[-1].read_bytes()[:-1])
    ml.empty_outputs()

    run = _run(backend, ml)

    events = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    ignored = [event for event in events if event["event"] == "checkpoint_ignored"]
    resumed = [event for event in events if event["event"] == "training_resumed"]
    lines = [line for line in run.output.splitlines() if line.startswith("[")]
    assert [event["reason"] for event in ignored] == [
        "it is incomplete, or was changed: its digest differs"
    ]
    assert [event["n_rounds"] for event in resumed] == [numbers[-2]]
    assert lines[0].startswith(f"[{numbers[-2]}]\t")
    assert lines[-1].startswith(f"[{N_ROUNDS - 1}]\t")
    assert _n_rounds(ml) == N_ROUNDS


@pytest.mark.canary
def test_sigterm_leaves_a_model_of_the_finished_rounds(backend: Backend, tmp_path: Path) -> None:
    """Exit code 143, a model that loads and predicts, no failure file (C-029)."""
    ml = _tree(tmp_path / "ml", backend, {**SAMPLING, "num_round": "1000000"})

    with backend.start_training(ml) as job:
        job.wait_for_output("[30]\t", PATIENCE_SECONDS)
        stopped = job.stop(grace_seconds=60)

    content = bytearray((ml.model_dir / "xgboost-model").read_bytes())
    booster = xgboost.Booster(model_file=content)
    assert stopped.exit_code == 143
    assert booster.num_boosted_rounds() > 30
    assert booster.predict(xgboost.DMatrix(np.zeros((1, 30)))).shape == (1,)
    assert [int(file.name[-8:]) for file in _checkpoints(ml)] == [booster.num_boosted_rounds()]
    assert ml.failure_reason() is None


@pytest.mark.docker_cases(0)
def test_checkpoint_of_another_job_is_not_used(backend: Backend, tmp_path: Path) -> None:
    """Other hyperparameters; the log names them."""
    ml = _tree(tmp_path / "ml", backend, {"num_round": "4", "eta": "0.3", "nthread": "1"})
    assert _run(backend, ml).exit_code == 0
    fresh = _tree(tmp_path / "fresh", backend, {"num_round": "4", "eta": "0.7", "nthread": "1"})
    assert _run(backend, fresh).exit_code == 0

    ml.write_hyperparameters({"num_round": "4", "eta": "0.7", "nthread": "1"})
    run = _run(backend, ml)

    assert "another job made it: hyperparameter eta differ" in run.output
    assert _model(ml) == _model(fresh)


def test_checkpoint_is_made_before_the_time_limit(backend: Backend, tmp_path: Path) -> None:
    """Writes it before the limit, not an hour later when the next one is due."""
    ml = _tree(tmp_path / "ml", backend, {**SAMPLING, "num_round": "1000000"})
    environment = {"BYOA_CHECKPOINT_SECONDS": "3600", "BYOA_MAX_RUNTIME_SECONDS": "33"}

    with backend.start_training(ml, environment=environment) as job:
        job.wait_for_output("checkpoint_saved", timeout_seconds=PATIENCE_SECONDS)
        assert "[0]\t" in job.output()
        job.send_signal(signal.SIGKILL)
        job.wait(PATIENCE_SECONDS)

    assert _checkpoints(ml)
