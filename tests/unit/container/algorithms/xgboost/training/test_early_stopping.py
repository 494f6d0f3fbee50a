"""The round in which early stopping ends a job, and the rounds that it keeps."""

import math

import pytest

from container.algorithms.xgboost.training.early_stopping import EarlyStopping
from container.errors import TrainingError


def _add(stopping: EarlyStopping, *scores: float, metric: str = "auc") -> None:
    for score in scores:
        stopping.add({f"train-{metric}": 0.5, f"validation-{metric}": score})


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("auc", [0.6, 0.7, 0.7, 0.65], 1),
        ("logloss", [0.6, 0.5, 0.5, 0.7], 1),
        ("auc", [math.nan, 0.6, math.nan, 0.5], 1),  # a number is better than none
    ],
)
def test_best_round_is_the_first_of_the_best(metric: str, scores: list[float], best: int) -> None:
    """The rule is that of XGBoost's own callback."""
    stopping = EarlyStopping(patience=2, metric=None)

    _add(stopping, *scores, metric=metric)

    assert (stopping.best_round, stopping.best_score) == (best, scores[best])
    assert stopping.is_over


def test_metric_that_is_never_a_number_ends_the_job_with_the_reason() -> None:
    """The job would otherwise succeed with a model of one round."""
    stopping = EarlyStopping(patience=3, metric="auc")
    _add(stopping, math.nan, math.nan, math.nan)

    with pytest.raises(TrainingError, match="validation-auc was not a number in any of 4 rounds"):
        _add(stopping, math.nan)
