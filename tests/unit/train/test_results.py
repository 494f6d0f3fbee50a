"""Files in /opt/ml/output/data after a job."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from PIL import Image

from tests.unit.train.conftest import Tree
from train import job, learning_curve

BLUE, ORANGE, WHITE = (31, 111, 180), (217, 88, 28), (255, 255, 255)


def _output(tree: Tree, name: str) -> Any:
    return json.loads((tree.root / "output" / "data" / name).read_bytes())


def test_metrics_are_those_of_the_log(cancer: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Each round's, and as final ones those of the last (C-039)."""
    assert job.main(cancer.environ) == 0, cancer.failure

    metrics = _output(cancer, "metrics.json")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert metrics["n_rounds"] == len(lines) == 3
    assert metrics["best_iteration"] is None
    for name in ("train-logloss", "validation-logloss"):
        assert [f"{value:.5f}" for value in metrics["history"][name]] == [
            line.partition(f"{name}:")[2].split()[0] for line in lines
        ]
        assert metrics["metrics"][name] == metrics["history"][name][-1]


def test_final_metrics_of_a_job_that_stopped_early_are_the_best_ones(
    cancer: Tree, records: np.ndarray
) -> None:
    """They are what the model in the artifact scores."""
    cancer.hyperparameters(
        num_round="200", objective="binary:logistic", early_stopping_rounds="5", eta="0.9"
    )

    assert job.main(cancer.environ) == 0, cancer.failure

    metrics = _output(cancer, "metrics.json")
    scores = metrics["history"]["validation-logloss"]
    assert metrics["metrics"]["validation-logloss"] == min(scores)
    assert metrics["best_iteration"] == scores.index(min(scores)) == len(scores) - 6
    model = (cancer.root / "model" / "xgboost-model").read_bytes()
    rows = records[400:].astype(np.float32)
    p = xgboost.Booster(model_file=bytearray(model)).predict(xgboost.DMatrix(rows[:, 1:]))
    loss = -np.mean(np.where(rows[:, 0] == 1, np.log(p), np.log(1 - p)))
    assert min(scores) == pytest.approx(loss, rel=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # XGBoost's advice on old parameters
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_importances_are_those_of_the_saved_model(cancer: Tree, booster: str) -> None:
    """By XGBoost's own measures."""
    cancer.hyperparameters(objective="binary:logistic", booster=booster)

    assert job.main(cancer.environ) == 0, cancer.failure

    importances = _output(cancer, "feature_importances.json")
    model = (cancer.root / "model" / "xgboost-model").read_bytes()
    saved = xgboost.Booster(model_file=bytearray(model))
    if booster == "gblinear":
        weights = saved.get_score(importance_type="weight")
        assert importances == {"weight": {name: abs(value) for name, value in weights.items()}}
        assert len(weights) == 30
    else:
        assert set(importances) == {"weight", "gain", "cover"}
        for measure, values in importances.items():
            assert values == pytest.approx(saved.get_score(importance_type=measure))


def _colours(file: Path) -> set[tuple[int, ...]]:
    with Image.open(file) as image:
        assert image.format == "PNG"
        found = image.convert("RGB").getcolors(maxcolors=2**24)
    assert found is not None
    return {colour for _, colour in found if isinstance(colour, tuple)}


def test_curve_shows_every_channel(cancer: Tree) -> None:
    """A picture with a line for each, in its colour."""
    assert job.main(cancer.environ) == 0, cancer.failure

    assert {BLUE, ORANGE, WHITE} <= _colours(cancer.root / "output" / "data" / "learning_curve.png")


@pytest.mark.parametrize(
    ("scores", "is_drawn"),
    [
        ([1.0, 0.5, 0.25], True),
        ([1.0], True),
        ([0.0, 0.0], True),
        ([-1e30, 1e30], True),
        ([1.0, math.nan, 0.5, math.inf, 0.25], True),
        ([math.nan, math.inf], False),
        ([1 / n for n in range(1, 20_000)], True),
        ([1.0, 1.0 + 1e-15], True),
    ],
)
def test_curve_takes_any_scores(tmp_path: Path, scores: list[float], is_drawn: bool) -> None:
    """One round, many, all the same, huge, and what is not finite."""
    learning_curve.draw([{"train-rmse": score} for score in scores], 0, tmp_path / "curve.png")

    assert (BLUE in _colours(tmp_path / "curve.png")) or not is_drawn


def test_curve_falls_where_the_scores_fall(tmp_path: Path) -> None:
    """Up is more, right is later."""
    learning_curve.draw([{"train-rmse": 9.0 - n} for n in range(10)], None, tmp_path / "curve.png")

    with Image.open(tmp_path / "curve.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    rows, columns = np.nonzero((pixels == BLUE).all(axis=2))
    is_line = rows > 30  # below the legend
    rows, columns = rows[is_line], columns[is_line]
    assert np.corrcoef(rows, columns)[0, 1] > 0.99


def test_outputs_that_cannot_be_written_do_not_fail_the_job(
    cancer: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is there, and that is what counts."""
    (cancer.root / "output").mkdir()
    (cancer.root / "output" / "data").write_text("a file where the directory should be")

    assert job.main(cancer.environ) == 0, cancer.failure
    assert capsys.readouterr().out.count("artifact_not_written") == 3
    assert "xgboost-model" in cancer.model_files
