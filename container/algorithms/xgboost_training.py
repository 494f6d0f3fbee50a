"""Training with XGBoost: rounds with their metrics, early stopping, the model file."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from container.algorithms import xgboost_log
from container.algorithms.base import TrainingInput
from container.algorithms.xgboost_data import build_matrices
from container.algorithms.xgboost_files import MODEL_FILE
from container.algorithms.xgboost_hyperparameters import XGBoostHyperparameters
from container.algorithms.xgboost_library import clean_message
from container.algorithms.xgboost_metrics import (
    check_metrics,
    evaluator,
    is_better_larger,
    is_ours,
)
from container.errors import HyperparameterError, TrainingError
from container.manifest import Framework, ModelFacts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainedBooster:
    """A booster cut to its best iteration."""

    booster: xgboost.Booster
    best_iteration: int | None
    objective: str

    def save(self, directory: Path) -> ModelFacts:
        """Write `xgboost-model` in UBJSON."""
        content = self.booster.save_raw(raw_format="ubj")
        (directory / MODEL_FILE).write_bytes(content)
        return ModelFacts(
            framework=Framework(name="xgboost", version=xgboost.__version__),
            n_features=self.booster.num_features(),
            n_outputs=_n_outputs(self.booster),
            objective=self.objective,
            best_iteration=self.best_iteration,
        )


def fit(job: TrainingInput) -> TrainedBooster:
    """Train a booster on `train`, watching `validation` where it is there.

    Raises:
        HyperparameterError: a hyperparameter that the data contradict.
        ChannelError: labels or widths that do not fit.
        TrainingError: XGBoost refused, with its reason.
    """
    xgboost_log.forward()
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    if hyperparameters.early_stopping_rounds and "validation" not in job.channels:
        raise HyperparameterError(
            "early_stopping_rounds", "needs the channel 'validation', which the job does not have"
        )
    for name in hyperparameters.without_effect():
        logger.warning("hyperparameter_without_effect", extra={"hyperparameter": name})
    metrics = _metrics(hyperparameters)
    parameters = {"nthread": job.n_threads} | hyperparameters.for_xgboost()
    if metrics:
        parameters["eval_metric"] = [metric for metric in metrics if not is_ours(metric)]
        parameters["disable_default_eval_metric"] = 1
    try:
        matrices = build_matrices(job, hyperparameters, parameters)
        job.interruption.defer()
        booster = xgboost.train(
            parameters,
            matrices["train"],
            num_boost_round=hyperparameters.num_round,
            evals=[(matrix, name) for name, matrix in matrices.items()],
            custom_metric=_evaluator(metrics, hyperparameters),
            callbacks=_callbacks(hyperparameters, job),
            verbose_eval=False,
        )
    except xgboost.core.XGBoostError as error:
        raise TrainingError(f"XGBoost refused to train: {clean_message(str(error))}") from error
    return _trained(booster, hyperparameters)


def _metrics(hyperparameters: XGBoostHyperparameters) -> list[str]:
    """The metrics asked for, with the one that a tuning job watches (C-013)."""
    metrics = list(hyperparameters.eval_metric or [])
    watched = (hyperparameters.tuning_objective_metric or "").rpartition(":")[2]
    if watched and watched not in metrics:
        try:
            check_metrics([watched], hyperparameters.objective)
        except HyperparameterError as error:
            logger.warning("tuning_metric_ignored", extra={"reason": error.message})
        else:
            # Not last: early stopping watches the last one that the job itself names.
            metrics.insert(0, watched)
    return metrics


def _evaluator(metrics: list[str], hyperparameters: XGBoostHyperparameters) -> Any:
    ours = [metric for metric in metrics if is_ours(metric)]
    return evaluator(ours, hyperparameters.objective or "reg:squarederror") if ours else None


class _Rounds(xgboost.callback.TrainingCallback):
    """Reports each round's metrics, in the order of channels and metrics, and ends in time."""

    def __init__(self, job: TrainingInput) -> None:
        super().__init__()
        self._job = job

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self._job.report(
            epoch,
            {
                f"{channel}-{metric}": float(values[-1])
                for channel, metrics in evals_log.items()
                for metric, values in metrics.items()
            },
        )
        return self._job.interruption.was_requested


def _callbacks(
    hyperparameters: XGBoostHyperparameters, job: TrainingInput
) -> list[xgboost.callback.TrainingCallback]:
    callbacks: list[xgboost.callback.TrainingCallback] = [_Rounds(job)]
    if hyperparameters.early_stopping_rounds:
        watched = hyperparameters.eval_metric[-1] if hyperparameters.eval_metric else None
        callbacks.append(
            xgboost.callback.EarlyStopping(
                rounds=hyperparameters.early_stopping_rounds,
                data_name="validation",
                metric_name=watched,
                maximize=is_better_larger(watched) if watched else None,
            )
        )
    return callbacks


def _trained(booster: xgboost.Booster, hyperparameters: XGBoostHyperparameters) -> TrainedBooster:
    best_iteration = None
    if hyperparameters.early_stopping_rounds and hyperparameters.booster != "gblinear":
        best_iteration = booster.best_iteration
        # Whoever opens the file with XGBoost itself gets the same predictions as the server.
        booster = booster[: best_iteration + 1]
    return TrainedBooster(booster, best_iteration, hyperparameters.objective or "reg:squarederror")


def _n_outputs(booster: xgboost.Booster) -> int:
    shape = booster.predict(
        xgboost.DMatrix(np.zeros((1, booster.num_features()), dtype=np.float32)),
        strict_shape=True,
    ).shape
    return int(shape[1])
