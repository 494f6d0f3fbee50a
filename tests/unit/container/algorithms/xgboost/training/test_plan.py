"""Plan of a training: decisions that follow from the hyperparameters and the checkpoints."""

from types import SimpleNamespace
from typing import Any

import pytest

from container import hyperparameters
from container.algorithms.training_contract import NoCheckpoints
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training.plan import Plan, make_plan
from train.distributed.cluster import OneHost


def _plan(*, has_checkpoints: bool = False, **given: str) -> Plan:
    job: Any = SimpleNamespace(
        hyperparameters=hyperparameters.validate(
            XGBoostHyperparameters, {"num_round": "3"} | given
        ),
        n_threads=2,
        checkpoints=NoCheckpoints(is_on=has_checkpoints),
        cluster=OneHost("localhost"),
    )
    return make_plan(job)


@pytest.mark.parametrize(
    ("given", "has_checkpoints", "is_seeded"),
    [
        ({"subsample": "0.5"}, True, True),
        ({"colsample_bynode": "0.5"}, True, True),
        ({"booster": "dart"}, True, True),
        ({"subsample": "1"}, True, False),
        ({"booster": "gblinear"}, True, False),
        ({"subsample": "0.5"}, False, False),
        ({"subsample": "0.5", "_kfold": "3"}, True, False),  # its checkpoints hold whole folds
    ],
)
def test_random_rounds_are_seeded_by_number_if_checkpoints_hold_rounds(
    given: dict[str, str], *, has_checkpoints: bool, is_seeded: bool
) -> None:
    """Any other job draws the random numbers of XGBoost itself (C-032)."""
    plan = _plan(has_checkpoints=has_checkpoints, **given)

    assert plan.parameters.get("seed_per_iteration", 0) == is_seeded


def test_early_stopping_watches_the_last_metric_of_the_job_itself() -> None:
    """The metric of a tuning job is computed, and comes before those of `eval_metric` (C-013)."""
    plan = _plan(
        eval_metric="mae,rmse",
        early_stopping_rounds="2",
        **{"_tuning_objective_metric": "validation:mape"},
    )

    assert list(plan.metrics) == plan.parameters["eval_metric"] == ["mape", "mae", "rmse"]
    rule = plan.early_stopping()
    assert rule is not None
    rule.add({"validation-mape": 9.0, "validation-mae": 9.0, "validation-rmse": 1.0})
    assert rule.best_score == 1.0


def test_each_fold_has_an_early_stopping_of_its_own() -> None:
    """The rule counts the rounds of one training."""
    plan = _plan(early_stopping_rounds="2", _kfold="2")

    assert plan.early_stopping() is not plan.early_stopping()


@pytest.mark.parametrize(
    ("change", "is_bound"),
    [
        ({"eta": "0.5"}, True),
        ({"subsample": "0.5"}, True),
        ({"eval_metric": "mae"}, True),
        ({"num_round": "9"}, False),
        ({"nthread": "1"}, False),
        ({"verbosity": "2"}, False),
        ({"save_model_on_termination": "false"}, False),
    ],
)
def test_checkpoint_is_bound_to_what_changes_its_rounds(
    change: dict[str, str], *, is_bound: bool
) -> None:
    """A job with other values of these does not resume from it (C-032)."""
    assert (_plan(**change).binding != _plan().binding) == is_bound
