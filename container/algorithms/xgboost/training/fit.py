"""Training with XGBoost: what the job asks for, made into matrices and rounds."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import xgboost

from container.algorithms.contract import Cluster, NoCheckpoints, TrainedModel, TrainingInput
from container.algorithms.xgboost import library_log
from container.algorithms.xgboost.evaluation_metrics import (
    check_metrics,
    evaluator,
    is_ours,
    names_for_xgboost,
)
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.serving.c_api import clean_message
from container.algorithms.xgboost.training.collective import (
    check_distributable,
    connected,
    of_first_host,
)
from container.algorithms.xgboost.training.cross_validation import cross_validate
from container.algorithms.xgboost.training.early_stopping import EarlyStopping
from container.algorithms.xgboost.training.gpu import device_for, has_gpu
from container.algorithms.xgboost.training.matrices import build_matrices, survey
from container.algorithms.xgboost.training.rounds import Boosting, is_random, shortener
from container.algorithms.xgboost.training.trained_model import TrainedBooster
from container.errors import HyperparameterError, TrainingError

logger = logging.getLogger(__name__)

# What may differ between a job and the one that resumes it: neither changes the rounds there are.
_NOT_BINDING = frozenset(
    {
        *("num_round", "nthread", "verbosity", "silent"),
        *("save_model_on_termination", "use_dask_gpu_training"),
    }
)
_NO_GPU_MEMORY = "Memory allocation error on worker"  # XGBoost 3.2.0, device_vector.cu
_TWEEDIE_POWER = 1.5  # XGBoost's default for `tweedie_variance_power`


def fit(job: TrainingInput) -> TrainedModel:
    """Train a booster on `train`, watching `validation` where it is there, or one for each fold.

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
    _refuse_missing_validation(job)
    _refuse_missing_gpu(job)
    try:
        _check_by_xgboost(job)
        if hyperparameters.kfold:
            return cross_validate(job, _train, _binding(hyperparameters))
        return _train(_resumable(job))
    except xgboost.core.XGBoostError as error:
        if _NO_GPU_MEMORY in str(error):
            raise TrainingError(
                "the memory of the GPU does not suffice; use an instance whose GPU has more, or "
                "train on the CPU: set the hyperparameter device=cpu"
            ) from error
        if "bad_alloc" in str(error):
            raise MemoryError from error
        raise TrainingError(f"XGBoost refused to train: {clean_message(str(error))}") from error


def _refuse_missing_validation(job: TrainingInput) -> None:
    """Folds are validated on the records that they leave out."""
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    if hyperparameters.kfold or "validation" in job.channels:
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


def _resumable(job: TrainingInput) -> TrainingInput:
    """The job without checkpoints where XGBoost cannot go on from them: of the biases of positions
    a model holds one half, and a second training from it is refused (seen in 3.2.0)."""
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    if not (hyperparameters.is_ranking and hyperparameters.lambdarank_unbiased):
        return job
    if job.checkpoints.is_on:
        reason = "XGBoost cannot resume with lambdarank_unbiased=1; a stopped job begins anew"
        logger.warning("checkpoints_without_effect", extra={"reason": reason})
    return replace(job, checkpoints=NoCheckpoints())


def _train(job: TrainingInput) -> TrainedBooster:
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    metrics = _metrics(hyperparameters)
    names = names_for_xgboost(metrics, hyperparameters.tweedie_variance_power or _TWEEDIE_POWER)
    parameters = _parameters(job)
    if metrics:
        parameters["eval_metric"] = list(dict.fromkeys(names.values()))
        parameters["disable_default_eval_metric"] = 1
    start = job.checkpoints.resume(
        _binding(hyperparameters), hyperparameters.num_round, shortener(parameters)
    )
    with connected(job.cluster):
        boosting = Boosting(
            job,
            parameters,
            metrics=names,
            evaluate=_evaluator(metrics, hyperparameters, job.cluster),
            stopping=_stopping(hyperparameters),
            start=of_first_host(start, job.cluster),
        )
        surveys = survey(job, hyperparameters)
        matrices = build_matrices(job, surveys, hyperparameters, parameters)
        device = device_for(parameters, matrices, job.cluster)
        logger.info("training_device", extra={"device": device})
        job.interruption.defer()
        feature_names = job.channels["train"].feature_names
        return boosting.run(matrices, hyperparameters.num_round, device, feature_names)


def _metrics(hyperparameters: XGBoostHyperparameters) -> list[str]:
    """The metrics asked for, with the one that a tuning job watches (C-013)."""
    metrics = list(hyperparameters.eval_metric or [])
    watched = (hyperparameters.tuning_objective_metric or "").rpartition(":")[2]
    if watched and watched not in metrics:
        try:
            check_metrics([watched], hyperparameters.objective, n_outputs=hyperparameters.n_outputs)
        except HyperparameterError as error:
            logger.warning("tuning_metric_ignored", extra={"reason": error.message})
        else:
            # Not last: early stopping watches the last one that the job itself names.
            metrics.insert(0, watched)
    return metrics


def _parameters(job: TrainingInput) -> dict[str, Any]:
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    parameters = {"nthread": job.n_threads} | hyperparameters.for_xgboost()
    if job.checkpoints.is_on and is_random(parameters):
        # Only then: without checkpoints a job draws the numbers that XGBoost itself draws.
        parameters["seed_per_iteration"] = 1
    return parameters


def _refuse_missing_gpu(job: TrainingInput) -> None:
    """XGBoost itself would train on the CPU, and say so in a line of its log."""
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    device = str(_parameters(job).get("device", "cpu"))
    if device == "cpu" or has_gpu(device):
        return
    if hyperparameters.device:
        raise HyperparameterError(
            "device",
            f"{hyperparameters.device!r} needs that GPU and the GPU image, and XGBoost does not "
            "find it here; use 'cpu', or leave device out: a GPU is used where there is one",
        )
    raise HyperparameterError(
        "tree_method",
        "'gpu_hist' needs a GPU and the GPU image, and XGBoost finds no GPU here; use 'hist', "
        "which grows the same kind of trees on the CPU",
    )


def _check_by_xgboost(job: TrainingInput) -> None:
    """Have the library refuse, before data are read, what this version of it does not know."""
    parameters = {
        name: value
        for name, value in _parameters(job).items()
        if name not in ("device", "verbosity", "monotone_constraints", "interaction_constraints")
    }
    with xgboost.config_context(verbosity=0):  # its warnings come with the training
        record = xgboost.DMatrix(np.zeros((1, 1)), [1])  # a booster does not keep it alive
        xgboost.Booster(parameters, [record]).save_config()


def _evaluator(
    metrics: list[str], hyperparameters: XGBoostHyperparameters, cluster: Cluster
) -> Any:
    ours = [metric for metric in metrics if is_ours(metric)]
    objective = hyperparameters.objective or "reg:squarederror"
    return evaluator(ours, objective, cluster.gather) if ours else None


def _stopping(hyperparameters: XGBoostHyperparameters) -> EarlyStopping | None:
    if not hyperparameters.early_stopping_rounds:
        return None
    return EarlyStopping(
        patience=hyperparameters.early_stopping_rounds,
        metric=hyperparameters.eval_metric[-1] if hyperparameters.eval_metric else None,
    )


def _binding(hyperparameters: XGBoostHyperparameters) -> dict[str, object]:
    """What a checkpoint must have in common with the job that goes on from it."""
    given = hyperparameters.model_dump(exclude_none=True, exclude=set(_NOT_BINDING), by_alias=True)
    return {f"hyperparameter {name}": value for name, value in sorted(given.items())} | {
        "version of XGBoost": xgboost.__version__
    }
