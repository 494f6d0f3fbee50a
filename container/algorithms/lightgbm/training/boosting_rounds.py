"""Boosting, one round after the other, from the start or from a checkpoint.

LightGBM continues a model from the scores that it predicts, which are those that training had
reached: without random numbers a resumed job grows the very trees that it would have grown, and
leaves the same bytes. In a job with checkpoints each round draws samples of records and features by
a seed of its own, so that this holds for them, too. Seen with LightGBM 4.7.0. Of `goss` and
quantised gradients, for example, the sequence begins anew: the trees are others, as good ones.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightgbm
from lightgbm.callback import CallbackEnv, EarlyStopException

from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.algorithms.lightgbm.training.best_rounds import BestRounds
from container.algorithms.lightgbm.training.datasets import Datasets
from container.algorithms.lightgbm.training.trained_text import TrainedText
from container.algorithms.training_contract import Checkpoint, TrainingInput

logger = logging.getLogger(__name__)

MODEL = "model"  # the part of a checkpoint
# A round that takes longer may outlast the time that the platform gives after SIGTERM.
_SLOW_ROUND_SECONDS = 5.0
_OTHER_SHARE = 0.0123  # of records; hardly that of a job


class Rounds:
    """State of one training: LightGBM calls it after each round."""

    def __init__(
        self,
        job: TrainingInput,
        hyperparameters: LightGBMHyperparameters,
        start: Checkpoint | None,
    ) -> None:
        """Prepare to train.

        Args:
            job: Receives reports and checkpoints; its channels are not read.
            hyperparameters: For the number of rounds and early stopping.
            start: Checkpoint to resume from; its model is kept for a SIGTERM before the next round.
        """
        self._job = job
        self._hyperparameters = hyperparameters
        self._best = BestRounds(hyperparameters) if hyperparameters.early_stopping_round else None
        self._feature_names: tuple[str, ...] | None = None
        self._n_rounds = self._n_saved = start.n_rounds if start else 0
        self._content = start.parts[MODEL].decode() if start else ""
        self._round_began = 0.0
        for scores in start.history if start else ():
            if self._best:
                self._best.add(scores)
        if self._content:
            job.interruption.keep(self._model())

    def run(self, datasets: Datasets, parameters: Mapping[str, Any]) -> TrainedText:
        """Boost until there are enough rounds, early stopping ends it, or the platform does."""
        self._feature_names = datasets.feature_names
        if not self._is_over():
            self._round_began = time.monotonic()
            booster = lightgbm.train(
                dict(parameters),
                datasets.by_channel["train"],
                # Of the whole job: the number stands in the file. `_after_round` ends it before.
                num_boost_round=self._hyperparameters.num_iterations,
                valid_sets=list(datasets.by_channel.values()),
                valid_names=list(datasets.by_channel),
                init_model=lightgbm.Booster(model_str=self._content) if self._content else None,
                callbacks=[self._after_round, *self._before_round()],
                keep_training_booster=True,
            )
            self._content = booster.model_to_string(num_iteration=-1)
        if self._job.checkpoints.is_on and self._n_rounds > self._n_saved:
            self._save_checkpoint()
        return self._model()

    def _before_round(self) -> list[Callable[[CallbackEnv], None]]:
        """Return the function that gives a round its own seeds, in a job that may be resumed."""
        given = self._hyperparameters
        if not (self._job.checkpoints.is_on and given.is_random):
            return []

        def reseed(state: CallbackEnv) -> None:
            seeds = given.seeds_of_round(state.iteration)
            booster = cast(lightgbm.Booster, state.model)
            if given.samples_records:  # a change of the share and back begins a new sequence
                booster.reset_parameter(dict.fromkeys(given.bagging_shares(), _OTHER_SHARE))
            booster.reset_parameter(seeds | given.bagging_shares())

        vars(reseed)["before_iteration"] = True
        return [reseed]

    def _after_round(self, state: CallbackEnv) -> None:
        booster = cast(lightgbm.Booster, state.model)  # a CVBooster belongs to `lightgbm.cv`
        if booster.current_iteration() <= self._n_rounds:
            # LightGBM has taken back the round, and would do so with every further one.
            logger.warning("no_further_splits", extra={"n_rounds": self._n_rounds})
            raise EarlyStopException(self._n_rounds - 1, [])
        scores = {f"{e[0]}-{e[1]}": float(e[2]) for e in state.evaluation_result_list or ()}
        if self._best:
            self._best.add(scores)
        self._job.report(self._n_rounds, scores)
        self._n_rounds += 1
        is_slow = time.monotonic() - self._round_began > _SLOW_ROUND_SECONDS
        is_due = self._job.checkpoints.is_due()
        if is_due or is_slow:
            self._content = booster.model_to_string(num_iteration=-1)
            self._job.interruption.keep(self._model())
        if is_due:
            self._save_checkpoint()
        self._round_began = time.monotonic()
        if self._is_over() or self._job.interruption.was_requested:
            raise EarlyStopException(self._n_rounds - 1, [])

    def _is_over(self) -> bool:
        if self._n_rounds == 0:
            return False
        is_stopped = self._best is not None and self._best.is_over
        return is_stopped or self._n_rounds >= self._hyperparameters.num_iterations

    def _model(self) -> TrainedText:
        """Return the model of the rounds that are in `_content`."""
        return TrainedText(
            content=self._content,
            objective=self._hyperparameters.objective,
            feature_names=self._feature_names,
            best_iteration=self._best.best_round if self._best else None,
        )

    def _save_checkpoint(self) -> None:
        self._job.checkpoints.save(self._n_rounds, {MODEL: self._content.encode()})
        self._n_saved = self._n_rounds
