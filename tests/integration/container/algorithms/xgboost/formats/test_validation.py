"""Damaged models, loaded in a child process where the checks let them pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from container.algorithms.xgboost.formats import validation
from container.algorithms.xgboost.serving.c_api import Booster, installed_version, prediction_config
from container.errors import ModelLoadError
from serve.runtime import validation_run
from tests.unit.container.algorithms.xgboost.formats.test_validation import SOUND


def test_mutated_models_are_refused_or_predict(tmp_path: Path) -> None:
    """Of thousands of damaged files, none that passes crashes a prediction.

    What passes here may still crash the loading; that is what
    `serve/runtime/validation_run.py` is for, and why the files that pass are loaded in a child.
    """
    sound = [bytes(SOUND[kind]().save_raw("ubj")) for kind in ("trees", "classes")]
    random = np.random.default_rng(5)
    rows = np.vstack([np.full((1, 3), np.nan), random.normal(size=(50, 3)) * 1e6])
    n_passed = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        content = bytearray(sound[seed % 2])
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        try:
            validation.check(bytes(content), "model", installed_version())
        except ModelLoadError:
            continue
        n_passed += 1

        def predict(content: bytes = bytes(content)) -> None:
            booster = Booster(content, n_threads=1)
            (tmp_path / "loaded").touch()
            n_features = booster.n_features()
            booster.predict(
                np.resize(rows.astype(np.float32), (50, n_features)), prediction_config(n_rounds=0)
            )

        (tmp_path / "loaded").unlink(missing_ok=True)
        problem = _problem_of(lambda: validation_run.in_child(predict, timeout_seconds=30))
        died_predicting = "crashed" in problem and (tmp_path / "loaded").exists()
        assert not died_predicting, f"seed {seed}: {problem}"

    assert n_passed > 10


def _problem_of(work: Callable[[], None]) -> str:
    try:
        work()
    except ModelLoadError as error:
        return error.message
    return ""
