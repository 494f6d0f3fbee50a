"""Entry point of training with XGBoost: check the job, make a plan, train."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xgboost

from container.algorithms.training_contract import NoCheckpoints, TrainedModel, TrainingInput
from container.algorithms.xgboost import library_log
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.serving.c_api import clean_message
from container.algorithms.xgboost.training.collective import (
    check_distributable,
    connected,
    of_first_host,
)
from container.algorithms.xgboost.training.cross_validation import cross_validate
from container.algorithms.xgboost.training.gpu import device_for, has_gpu
from container.algorithms.xgboost.training.matrices import build_matrices, survey
from container.algorithms.xgboost.training.plan import Plan, make_plan
from container.algorithms.xgboost.training.rounds import Boosting, shortener
from container.algorithms.xgboost.training.trained_model import TrainedBooster
from container.errors import HyperparameterError, TrainingError

logger = logging.getLogger(__name__)

_NO_GPU_MEMORY = "Memory allocation error on worker"  # XGBoost 3.2.0, device_vector.cu
# Not part of the check before data are read: they need the device, the columns or the metrics.
_NOT_CHECKED = frozenset(
    {
        *("device", "verbosity", "monotone_constraints", "interaction_constraints"),
        *("eval_metric", "disable_default_eval_metric"),
    }
)


def fit(job: TrainingInput) -> TrainedModel:
    """Train a booster on `train` and evaluate it on `validation` if present.

    A k-fold job trains one booster a fold.

    Raises:
        HyperparameterError: a hyperparameter that the data or the host contradict.
        ChannelError: labels or widths that do not fit.
        TrainingError: XGBoost refused, with its reason.
        HostError: another host is gone.
        MemoryError: XGBoost was refused memory.
    """
    library_log.forward()
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    check_distributable(hyperparameters, job.cluster)
    for name in hyperparameters.without_effect():
        logger.warning("hyperparameter_without_effect", extra={"hyperparameter": name})
    if hyperparameters.save_model_on_termination == "false":
        job.interruption.leave_no_model()
    _refuse_missing_validation(hyperparameters, has_validation="validation" in job.channels)
    if not hyperparameters.kfold:
        job = _resumable(job, hyperparameters)
    plan = make_plan(job)
    _refuse_missing_gpu(plan)
    try:
        _check_by_xgboost(plan.parameters)
        if hyperparameters.kfold:
            return cross_validate(job, partial(_train, plan=plan), plan.binding)
        return _train(job, plan)
    except xgboost.core.XGBoostError as error:
        if _NO_GPU_MEMORY in str(error):
            raise TrainingError(
                "the memory of the GPU does not suffice; use an instance whose GPU has more, or "
                "train on the CPU: set the hyperparameter device=cpu"
            ) from error
        if "bad_alloc" in str(error):
            raise MemoryError from error
        raise TrainingError(f"XGBoost refused to train: {clean_message(str(error))}") from error


def _refuse_missing_validation(
    hyperparameters: XGBoostHyperparameters, *, has_validation: bool
) -> None:
    """Refuse hyperparameters that need the channel `validation`, which k-fold jobs do without."""
    if hyperparameters.kfold or has_validation:
        return
    without = "the channel 'validation', which the job does not have; add it to InputDataConfig"
    if hyperparameters.early_stopping_rounds:
        raise HyperparameterError(
            "early_stopping_rounds", f"needs {without}, or leave early_stopping_rounds out"
        )
    watched = hyperparameters.tuning_objective_metric or ""
    channel, _, metric = watched.partition(":")
    if channel == "validation":
        raise HyperparameterError(
            "_tuning_objective_metric",
            f"{watched!r} is a metric of {without}, or tune 'train:{metric}'",
        )


def _resumable(job: TrainingInput, hyperparameters: XGBoostHyperparameters) -> TrainingInput:
    """Return the job, without checkpoints where XGBoost cannot continue a model.

    A model holds half of the position biases of an unbiased ranking, and XGBoost 3.2.0 refuses to
    train it further.
    """
    if not (hyperparameters.is_ranking and hyperparameters.lambdarank_unbiased):
        return job
    if job.checkpoints.is_on:
        reason = "XGBoost cannot resume with lambdarank_unbiased=1; a stopped job begins anew"
        logger.warning("checkpoints_without_effect", extra={"reason": reason})
    return replace(job, checkpoints=NoCheckpoints())


def _train(job: TrainingInput, plan: Plan) -> TrainedBooster:
    hyperparameters, parameters = plan.hyperparameters, plan.parameters
    start = job.checkpoints.resume(plan.binding, hyperparameters.num_round, shortener(parameters))
    with connected(job.cluster):
        boosting = Boosting(
            job,
            parameters,
            metrics=plan.metrics,
            evaluate=plan.evaluate,
            stopping=plan.early_stopping(),
            start=of_first_host(start, job.cluster),
        )
        surveys = survey(job, hyperparameters)
        matrices = build_matrices(job, surveys, hyperparameters, parameters)
        device = device_for(parameters, matrices, job.cluster)
        logger.info("training_device", extra={"device": device})
        job.interruption.defer()
        feature_names = job.channels["train"].feature_names
        return boosting.run(matrices, hyperparameters.num_round, device, feature_names)


def _refuse_missing_gpu(plan: Plan) -> None:
    """Refuse a GPU that is missing: XGBoost would train on the CPU and only log it."""
    device = str(plan.parameters.get("device", "cpu"))
    if device == "cpu" or has_gpu(device):
        return
    if plan.hyperparameters.device:
        raise HyperparameterError(
            "device",
            f"{plan.hyperparameters.device!r} needs that GPU and the GPU image, and XGBoost does "
            "not find it here; use 'cpu', or leave device out: a GPU is used where there is one",
        )
    raise HyperparameterError(
        "tree_method",
        "'gpu_hist' needs a GPU and the GPU image, and XGBoost finds no GPU here; use 'hist', "
        "which grows the same kind of trees on the CPU",
    )


def _check_by_xgboost(parameters: Mapping[str, Any]) -> None:
    """Let XGBoost refuse parameters that its version does not know, before data are read."""
    checked = {name: value for name, value in parameters.items() if name not in _NOT_CHECKED}
    with xgboost.config_context(verbosity=0):  # its warnings come with the training
        record = xgboost.DMatrix(np.zeros((1, 1)), [1])  # a booster does not keep it alive
        xgboost.Booster(checked, [record]).save_config()
