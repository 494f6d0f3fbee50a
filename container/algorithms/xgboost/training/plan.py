"""Plan of an XGBoost training: all that follows from the hyperparameters, decided once a job."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import xgboost

from container.algorithms.training_contract import TrainingInput
from container.algorithms.xgboost.evaluation_metrics import (
    check_metrics,
    evaluator,
    is_ours,
    names_for_xgboost,
)
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training.early_stopping import EarlyStopping
from container.errors import HyperparameterError

logger = logging.getLogger(__name__)

Evaluator = Callable[[Any, Any], list[tuple[str, float]]]

# A resumed job may change these: none of them alters the rounds that a checkpoint holds.
_NOT_BINDING = frozenset(
    {
        *("num_round", "nthread", "verbosity", "silent"),
        *("save_model_on_termination", "use_dask_gpu_training"),
    }
)
_SAMPLING_SHARES = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
_TWEEDIE_POWER = 1.5  # XGBoost's default for `tweedie_variance_power`


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions for every training of a job; in cross-validation there is one training a fold."""

    hyperparameters: XGBoostHyperparameters
    parameters: Mapping[str, Any]  # for XGBoost, under its own names
    metrics: Mapping[str, str]  # XGBoost's name of each of its metrics, by the job's name
    evaluate: Evaluator | None  # for the metrics that XGBoost lacks
    binding: Mapping[str, object]  # facts that a checkpoint and this job must have in common

    def early_stopping(self) -> EarlyStopping | None:
        """Return a new rule for one training; None if the job asks for none."""
        if not self.hyperparameters.early_stopping_rounds:
            return None
        metrics = self.hyperparameters.eval_metric
        return EarlyStopping(
            patience=self.hyperparameters.early_stopping_rounds,
            metric=metrics[-1] if metrics else None,
        )


def make_plan(job: TrainingInput) -> Plan:
    """Decide what to ask XGBoost for. No record is read."""
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    metrics = _metrics(hyperparameters)
    names = names_for_xgboost(metrics, hyperparameters.tweedie_variance_power or _TWEEDIE_POWER)
    parameters = {"nthread": job.n_threads} | hyperparameters.for_xgboost()
    # Without checkpoints of rounds a job draws the random numbers that XGBoost itself draws. The
    # checkpoints of a cross-validation hold whole folds.
    if job.checkpoints.is_on and not hyperparameters.kfold and _is_random(parameters):
        parameters["seed_per_iteration"] = 1
    if metrics:
        parameters["eval_metric"] = list(dict.fromkeys(names.values()))
        parameters["disable_default_eval_metric"] = 1
    own = [metric for metric in metrics if is_ours(metric)]
    objective = hyperparameters.objective or "reg:squarederror"
    return Plan(
        hyperparameters=hyperparameters,
        parameters=parameters,
        metrics=names,
        evaluate=evaluator(own, objective, job.cluster.gather) if own else None,
        binding=_binding(hyperparameters),
    )


def _metrics(hyperparameters: XGBoostHyperparameters) -> list[str]:
    """Return the metrics asked for, with the one that a tuning job watches (C-013)."""
    metrics = list(hyperparameters.eval_metric or [])
    watched = (hyperparameters.tuning_objective_metric or "").rpartition(":")[2]
    if watched and watched not in metrics:
        try:
            check_metrics([watched], hyperparameters.objective, n_outputs=hyperparameters.n_outputs)
        except HyperparameterError as error:
            logger.warning("tuning_metric_ignored", extra={"reason": error.message})
        else:
            # Not last: early stopping watches the last metric that the job itself names.
            metrics.insert(0, watched)
    return metrics


def _is_random(parameters: Mapping[str, Any]) -> bool:
    """True if rounds draw random numbers."""
    booster = parameters.get("booster")
    if booster == "gblinear":  # it has no samples and no trees
        return False
    return booster == "dart" or any(parameters.get(name, 1) < 1 for name in _SAMPLING_SHARES)


def _binding(hyperparameters: XGBoostHyperparameters) -> dict[str, object]:
    given = hyperparameters.model_dump(exclude_none=True, exclude=set(_NOT_BINDING), by_alias=True)
    return {f"hyperparameter {name}": value for name, value in sorted(given.items())} | {
        "version of XGBoost": xgboost.__version__
    }
