"""Entry point of training with LightGBM: check the job, read the channels, boost."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightgbm

from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.algorithms.lightgbm.training.boosting_rounds import MODEL, Rounds
from container.algorithms.lightgbm.training.datasets import Datasets, read_datasets
from container.algorithms.lightgbm.training.trained_text import TrainedText
from container.algorithms.training_contract import NoCheckpoints, TrainingInput
from container.errors import HyperparameterError, TrainingError
from container.host_paths import shorten

logger = logging.getLogger(__name__)


class _Log:
    """Receiver of the library's messages; one that repeats itself is logged once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def info(self, message: str) -> None:
        self._log(message)

    def warning(self, message: str) -> None:
        self._log(message)

    def _log(self, message: str) -> None:
        text = " ".join(message.replace("[LightGBM]", "").split())
        is_warning = text.startswith("[Warning]")
        text = text.removeprefix("[Warning] ").removeprefix("[Info] ")
        if not text or text in self._seen:
            return
        self._seen.add(text)
        level = logging.WARNING if is_warning else logging.INFO
        logger.log(level, "lightgbm_message", extra={"text": text})


def fit(job: TrainingInput) -> TrainedText:
    """Train a model on `train` and evaluate it on `validation` if present.

    Raises:
        HyperparameterError: a hyperparameter that the data contradict.
        ChannelError: labels or widths that do not fit.
        TrainingError: LightGBM refused, with its reason.
        MemoryError: LightGBM was refused memory.
    """
    lightgbm.register_logger(_Log())
    hyperparameters: LightGBMHyperparameters = job.hyperparameters
    _refuse_missing_validation(hyperparameters, has_validation="validation" in job.channels)
    job = _resumable(job, hyperparameters)
    try:
        return _train(job, hyperparameters)
    except lightgbm.basic.LightGBMError as error:
        if "bad_alloc" in str(error):
            raise MemoryError from error
        message = shorten(" ".join(str(error).split()))
        raise TrainingError(f"LightGBM refused to train: {message}") from error


def _train(job: TrainingInput, hyperparameters: LightGBMHyperparameters) -> TrainedText:
    start = job.checkpoints.resume(
        hyperparameters.binding()
        | {"version of LightGBM": lightgbm.__version__, "number of threads": job.n_threads},
        hyperparameters.num_iterations,
        _shorten,
    )
    rounds = Rounds(job, hyperparameters, start)
    datasets = read_datasets(job, hyperparameters)
    job.interruption.defer()
    return rounds.run(datasets, _parameters(job, hyperparameters, datasets))


def _parameters(
    job: TrainingInput, hyperparameters: LightGBMHyperparameters, datasets: Datasets
) -> dict[str, Any]:
    parameters = {"num_threads": job.n_threads} | hyperparameters.for_lightgbm()
    if hyperparameters.force_col_wise is None and hyperparameters.force_row_wise is None:
        # LightGBM would measure which is faster, and sums differ by the order of their terms.
        parameters["force_col_wise" if datasets.is_sparse else "force_row_wise"] = True
    return parameters


def _shorten(parts: Mapping[str, bytes], n_rounds: int) -> Mapping[str, bytes]:
    """Cut a checkpoint to an earlier round."""
    booster = lightgbm.Booster(model_str=parts[MODEL].decode())
    return {MODEL: booster.model_to_string(num_iteration=n_rounds).encode()}


def _refuse_missing_validation(
    hyperparameters: LightGBMHyperparameters, *, has_validation: bool
) -> None:
    if has_validation:
        return
    without = "the channel 'validation', which the job does not have; add it to InputDataConfig"
    if hyperparameters.early_stopping_round:
        raise HyperparameterError(
            "early_stopping_round", f"needs {without}, or leave early_stopping_round out"
        )
    channel, _, metric = (hyperparameters.tuning_objective_metric or "").partition(":")
    if channel == "validation":
        raise HyperparameterError(
            "_tuning_objective_metric",
            f"'validation:{metric}' is a metric of {without}, or tune 'train:{metric}'",
        )


def _resumable(job: TrainingInput, hyperparameters: LightGBMHyperparameters) -> TrainingInput:
    """Return the job, without checkpoints where LightGBM cannot continue a model.

    `dart` changes the trees of earlier rounds, and `rf` averages trees that know nothing of each
    other; LightGBM takes those of a given model for fixed.
    """
    if hyperparameters.boosting == "gbdt":
        if job.checkpoints.is_on and hyperparameters.resumes_otherwise:
            reason = "rounds draw random numbers, so that a resumed job grows other trees"
            logger.info("resume_is_not_exact", extra={"reason": reason})
        return job
    if job.checkpoints.is_on:
        reason = f"LightGBM cannot resume with boosting={hyperparameters.boosting!r}; a stopped job"
        logger.warning("checkpoints_without_effect", extra={"reason": f"{reason} begins anew"})
    return replace(job, checkpoints=NoCheckpoints())
