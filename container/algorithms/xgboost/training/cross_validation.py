"""K-fold cross-validation: `_kfold` models, each trained without a fold and scored on it.

`train` and `validation` are one set of records here. The models together are the artifact, which
predicts as an ensemble; `_num_cv_round` repeats this with other folds. The metric lines have the
form of AWS's XGBoost container. A resumed job continues with the first unfinished fold.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from container.algorithms.training_contract import (
    Checkpoint,
    Interruption,
    NoCheckpoints,
    TrainedModel,
    TrainingInput,
)
from container.algorithms.xgboost.formats.discovery import MODEL_FILE
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training import fold_outputs
from container.algorithms.xgboost.training.folds import Fold, Records, deal
from container.algorithms.xgboost.training.labels import check_labels
from container.algorithms.xgboost.training.trained_model import TrainedBooster
from container.errors import HyperparameterError
from container.manifest import ModelFacts

logger = logging.getLogger(__name__)

Train = Callable[[TrainingInput], TrainedBooster]
Scores = Mapping[str, float]

_STATE = "state"  # the part of a checkpoint that is JSON; the others are models, by number


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """See `container.algorithms.training_contract.TrainedModel`."""

    boosters: Sequence[TrainedBooster]

    def save(self, directory: Path) -> ModelFacts:
        """Write `xgboost-model-0`, `xgboost-model-1` and so on."""
        facts = [
            booster.save_as(directory / f"{MODEL_FILE}-{number}")
            for number, booster in enumerate(self.boosters)
        ]
        return facts[0].model_copy(update={"best_iteration": None})  # each file has its own

    def importances(self) -> dict[str, dict[str, float]]:
        """Return the mean over the models."""
        return fold_outputs.mean_importances([booster.importances() for booster in self.boosters])


@dataclass(frozen=True, slots=True)
class FinishedFold:
    """Result of the training without one fold."""

    booster: TrainedBooster
    history: Sequence[Scores]

    @property
    def scores(self) -> Scores:
        """Scores of the round that is saved."""
        best = self.booster.best_iteration
        return self.history[-1 if best is None else best]


def cross_validate(
    job: TrainingInput, train: Train, binding: Mapping[str, object]
) -> CrossValidated:
    """Train and score one model a fold.

    Args:
        job: All channels count, `train` among them.
        train: Trains on the channel `train` of a job and evaluates `validation`.
        binding: Facts that a checkpoint and this job must have in common.
    Raises:
        HyperparameterError: there are more folds than records.
        ChannelError: labels or widths that do not fit.
    """
    hyperparameters: XGBoostHyperparameters = job.hyperparameters
    n_trainings = (hyperparameters.kfold or 0) * hyperparameters.num_cv_round
    facts = dict(binding) | {"hyperparameter num_round": hyperparameters.num_round}
    finished = _decode(job.checkpoints.resume(facts, n_trainings))
    if finished:  # before anything is read, which may take long
        job.interruption.keep(_together(finished))
    return _CrossValidation(job, train, finished).run(n_trainings)


class _CrossValidation:
    def __init__(self, job: TrainingInput, train: Train, finished: list[FinishedFold]) -> None:
        hyperparameters: XGBoostHyperparameters = job.hyperparameters
        self._job = job
        self._train = train
        self._finished = finished
        self._n_folds = hyperparameters.kfold or 0
        self._n_rounds = hyperparameters.num_round
        self._seed = (hyperparameters.seed or 0) % 2**32
        objective = hyperparameters.objective or ""
        self._is_classifier = objective.startswith(("binary:", "multi:"))
        self._records = Records.survey(job.channels)
        for name, labels in self._records.labels.items():
            check_labels(labels, hyperparameters, channel=name)
        self._labels = self._records.all_labels
        self._lists = self._records.lists if hyperparameters.uses_lists else None
        n_dealt, what = len(self._labels), "records"
        if self._lists is not None:
            n_dealt, what = int(self._lists[-1]) + 1, "lists"
        if n_dealt < self._n_folds:
            raise HyperparameterError(
                "_kfold", f"asks for {self._n_folds} folds of {n_dealt} {what}"
            )
        classes, counts = np.unique(self._labels, return_counts=True)
        if self._is_classifier and len(classes) == 2 and counts.min() == 1:
            raise HyperparameterError(
                "_kfold",
                f"only one record has the label {classes[counts.argmin()]:g}: without its fold "
                "there is one class left to train on",
            )

    def run(self, n_trainings: int) -> CrossValidated:
        checkpoints = self._job.checkpoints
        while len(self._finished) < n_trainings:
            fold = self._next_fold()
            if self._job.interruption.was_requested:  # so the fold may not be complete
                return _together(self._finished or [fold])
            self._finished.append(fold)
            self._job.interruption.keep(_together(self._finished))
            logger.info(
                "fold_completed",
                extra={"n_completed": len(self._finished), "scores": dict(fold.scores)},
            )
            if checkpoints.is_on:
                checkpoints.save(len(self._finished), _encode(self._finished))
            if len(self._finished) % self._n_folds == 0:
                self._announce(self._finished[-self._n_folds :])
        self._conclude()
        return _together(self._finished)

    def _held_out(self, number: int) -> NDArray[np.bool_]:
        """Return the mask `[n_rows]` of the records that training `number` does not see."""
        repetition, fold = divmod(number, self._n_folds)
        random = np.random.default_rng([self._seed, repetition])
        folds = deal(
            self._labels,
            self._n_folds,
            is_stratified=self._is_classifier,
            random=random,
            lists=self._lists,
        )
        is_held_out: NDArray[np.bool_] = folds == fold
        return is_held_out

    def _next_fold(self) -> FinishedFold:
        is_held_out = self._held_out(len(self._finished))
        history: list[Scores] = []

        def report(iteration: int, scores: Scores) -> None:
            self._job.announce(iteration, scores)
            history.append(dict(scores))

        booster = self._train(
            replace(
                self._job,
                channels={
                    "train": Fold("train", self._records, ~is_held_out),
                    "validation": Fold("validation", self._records, is_held_out),
                },
                report=report,
                interruption=_InFold(self._job.interruption, is_first=not self._finished),
                checkpoints=NoCheckpoints(),
            )
        )
        return FinishedFold(booster, history)

    def _announce(self, folds: Sequence[FinishedFold]) -> None:
        self._job.announce(self._n_rounds, fold_outputs.mean([f.scores for f in folds]))

    def _conclude(self) -> None:
        """Report the mean of each round that all folds reached, then the means of the models."""
        histories = [fold.history for fold in self._finished]
        for iteration, scores in enumerate(zip(*histories, strict=False)):
            self._job.report(iteration, fold_outputs.mean(scores))
        self._announce(self._finished)
        try:
            self._write_outputs(self._job.output_dir)
        except OSError as error:  # the models matter more
            facts = {"directory": self._job.output_dir.name, "reason": error.strerror}
            logger.warning("artifact_not_written", extra=facts)

    def _write_outputs(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        scores = [fold.scores for fold in self._finished]
        fold_outputs.write_scores(directory, scores, self._n_folds)
        fold_outputs.write_predictions(
            directory,
            self._records,
            [(fold.booster, self._held_out(number)) for number, fold in enumerate(self._finished)],
            is_classifier=self._is_classifier,
        )


@dataclass(slots=True)
class _InFold:
    """Interruption of the job, as the training of one fold uses it."""

    outer: Interruption
    is_first: bool

    @property
    def was_requested(self) -> bool:
        return self.outer.was_requested

    def request(self) -> None:
        self.outer.request()

    def defer(self) -> None:
        self.outer.defer()

    def leave_no_model(self) -> None:
        self.outer.leave_no_model()

    def keep(self, model: TrainedModel) -> None:
        """Keep the model of a part of the first fold; whole folds are better than parts."""
        if self.is_first and isinstance(model, TrainedBooster):
            self.outer.keep(CrossValidated([model]))


def _together(folds: Sequence[FinishedFold]) -> CrossValidated:
    return CrossValidated([fold.booster for fold in folds])


def _encode(folds: Sequence[FinishedFold]) -> dict[str, bytes]:
    state = []
    parts = {}
    for number, fold in enumerate(folds):
        facts = asdict(fold.booster)
        parts[str(number)] = facts.pop("content")
        state.append({"booster": facts, "history": list(fold.history)})
    return {_STATE: json.dumps(state).encode(), **parts}


def _decode(checkpoint: Checkpoint | None) -> list[FinishedFold]:
    if checkpoint is None:
        return []
    return [
        FinishedFold(
            TrainedBooster(content=checkpoint.parts[str(number)], **entry["booster"]),
            entry["history"],
        )
        for number, entry in enumerate(json.loads(checkpoint.parts[_STATE]))
    ]
