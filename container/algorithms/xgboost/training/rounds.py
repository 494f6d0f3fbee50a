"""Boosting, one round after the other, from the start or from a checkpoint.

XGBoost's own `train` counts its rounds from 0 when it continues a model, and keeps random states
that a model file does not hold. Here a round depends on its number and on the model before it, and
on nothing else, so that a resumed job grows the very trees that it would have grown. Seen with
XGBoost 3.2.0 and 3.4.1 for every kind of booster and of sampling; the one exception is the linear
booster's default updater `shotgun`, whose threads race, so that no two runs are the same.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xgboost

from container.algorithms.training_contract import Checkpoint, TrainingInput
from container.algorithms.xgboost.training.collective import any_host
from container.algorithms.xgboost.training.early_stopping import EarlyStopping
from container.algorithms.xgboost.training.plan import Evaluator
from container.algorithms.xgboost.training.trained_model import TrainedBooster
from container.codecs import column_names
from container.errors import ChannelError

logger = logging.getLogger(__name__)

Parts = Mapping[str, bytes]

_MODEL, _BEST, _NAMES = "model", "best", "feature_names"  # the parts of a checkpoint
# A round that takes longer may outlast the time that the platform gives after SIGTERM.
_SLOW_ROUND_SECONDS = 5.0


def shortener(parameters: Mapping[str, Any]) -> Callable[[Parts, int], Parts] | None:
    """Return the function that cuts a later checkpoint to an earlier round.

    None where later rounds change earlier ones: rescaled trees, weights, trees of a given model.
    """
    if not _is_cuttable(parameters) or parameters.get("process_type") == "update":
        return None

    def shorten(parts: Parts, n_rounds: int) -> Parts:
        model = xgboost.Booster(model_file=bytearray(parts[_MODEL]))[:n_rounds]
        return {**parts, _MODEL: _content(model)}

    return shorten


def _is_cuttable(parameters: Mapping[str, Any]) -> bool:
    """True if the first n rounds of a booster equal the booster after n rounds."""
    return parameters.get("booster") not in ("dart", "gblinear")


class Boosting:
    """State of one training."""

    def __init__(
        self,
        job: TrainingInput,
        parameters: Mapping[str, Any],
        *,
        metrics: Mapping[str, str],
        evaluate: Evaluator | None,
        stopping: EarlyStopping | None,
        start: Checkpoint | None,
    ) -> None:
        """Prepare to train with `parameters`.

        Args:
            job: Receives reports and checkpoints; its channels are not read.
            parameters: For XGBoost. With `seed_per_iteration` a round is independent of how the
                rounds before it were reached.
            metrics: XGBoost's name of each metric that it is asked for, in the order of
                `parameters`, by the name to report it under; its default without any.
            evaluate: Computes the metrics that XGBoost lacks, from predictions and a matrix.
            stopping: Early stopping without any scores yet; None for none.
            start: Checkpoint to resume from; its model is kept for a SIGTERM before the next round.
        """
        self._job = job
        self._parameters = dict(parameters)
        self._metrics = dict(metrics)
        self._evaluate = evaluate
        self._stopping = stopping
        self._n_rounds = start.n_rounds if start else 0
        self._n_saved = self._n_rounds
        self._content = start.parts[_MODEL] if start else b""
        self._best = start.parts.get(_BEST, b"") if start else b""
        self._feature_names: Sequence[str] | None = None
        if start and _NAMES in start.parts:
            self._feature_names = json.loads(start.parts[_NAMES])
        # Later rounds of dart and gblinear change earlier ones: no cut restores the best round.
        self._is_cuttable = _is_cuttable(parameters)
        if stopping and not self._is_cuttable:
            logger.info("best_round_is_kept_as_it_was", extra={"booster": parameters["booster"]})
        if start:
            if stopping:
                for scores in start.history:
                    stopping.add(scores)
            job.interruption.keep(self._model())

    def run(
        self,
        matrices: Mapping[str, xgboost.DMatrix],
        n_rounds: int,
        device: str,
        feature_names: Sequence[str] | None,
    ) -> TrainedBooster:
        """Boost until there are `n_rounds`, early stopping ends it, or the platform does.

        Args:
            matrices: One a channel, `train` among them.
            n_rounds: Those of the checkpoint included.
            device: `cpu` or `cuda`.
            feature_names: Names of the columns of the matrices; None if the records have none.
        Raises:
            ChannelError: the checkpoint was made of other columns.
        """
        self._name_features(feature_names)
        self._parameters["device"] = device
        booster = xgboost.Booster(
            self._parameters,
            list(matrices.values()),
            model_file=bytearray(self._content) if self._content else None,
        )
        if self._content:
            self._sketch_as_at_first(matrices["train"])
        while self._n_rounds < n_rounds and not self._is_over():
            started = time.monotonic()
            self._forget_random_state(booster)
            booster.update(matrices["train"], iteration=self._n_rounds)
            self._finish_round(booster, self._scores(booster, matrices))
            is_slow = time.monotonic() - started > _SLOW_ROUND_SECONDS
            is_due = self._job.checkpoints.is_due()
            if is_due or is_slow:
                self._content = _content(booster)
                self._job.interruption.keep(self._model())
            if is_due:
                self._save_checkpoint()
        self._content = _content(booster)
        if self._job.checkpoints.is_on and self._n_rounds > self._n_saved:
            self._save_checkpoint()
        return self._model()

    def _name_features(self, names: Sequence[str] | None) -> None:
        before = self._feature_names
        if before is not None and list(names or ()) != list(before):
            raise ChannelError(
                "channel 'train' has other feature columns than the checkpoint, or has them in "
                f"another order: {column_names.listed(names or ())} where the checkpoint has "
                f"{column_names.listed(before)}; give the job the same data, or empty the "
                "checkpoint directory to begin anew"
            )
        self._feature_names = names

    def _is_over(self) -> bool:
        if self._n_rounds == 0:
            return False
        if self._stopping and self._stopping.is_over:
            return True
        # By vote: a host that stopped alone would leave the others waiting in the next round.
        is_over = any_host(self._job.interruption.was_requested, self._job.cluster)
        if is_over:
            self._job.interruption.request()
        return is_over

    def _finish_round(self, booster: xgboost.Booster, scores: Mapping[str, float]) -> None:
        if self._stopping and self._stopping.add(scores) and not self._is_cuttable:
            self._best = _content(booster)
        self._job.report(self._n_rounds, scores)
        self._n_rounds += 1

    def _model(self) -> TrainedBooster:
        """Return the model of the rounds that are in `_content`."""
        is_best = bool(self._stopping) and not self._is_cuttable
        return TrainedBooster(
            content=self._best if is_best else self._content,
            objective=self._parameters.get("objective", "reg:squarederror"),
            feature_names=self._feature_names,
            best_iteration=self._stopping.best_round if self._stopping else None,
            best_score=self._stopping.best_score if self._stopping else None,
        )

    def _save_checkpoint(self) -> None:
        parts = {_MODEL: self._content} | ({_BEST: self._best} if self._best else {})
        if self._feature_names is not None:
            parts[_NAMES] = json.dumps(list(self._feature_names)).encode()
        self._job.checkpoints.save(self._n_rounds, parts)
        self._n_saved = self._n_rounds

    def _forget_random_state(self, booster: xgboost.Booster) -> None:
        """Reset the column sampler of XGBoost 3.2, which lives as long as its tree updaters.

        A change of a parameter and back makes new updaters. Costs a millisecond a round.
        """
        if not self._parameters.get("seed_per_iteration"):
            return
        name, other = ("tree_method", "approx")
        if "updater" in self._parameters:
            name, other = ("updater", "refresh")
        elif self._parameters.get("tree_method") == other:
            other = "hist"
        booster.set_param({name: other})
        booster.num_features()  # parameters take effect with the next use
        booster.set_param({name: self._parameters.get(name, "auto")})

    def _sketch_as_at_first(self, matrix: xgboost.DMatrix) -> None:
        """Bin the columns of `approx` as the first round of the job did.

        For equal weights `approx` bins the columns once, from the sample of the first round, and
        the bins stay with the matrix. A temporary booster makes them.
        """
        grows_so = self._parameters.get("tree_method") == "approx" or "grow_histmaker" in (
            self._parameters.get("updater", "")
        )
        if grows_so and self._parameters.get("seed_per_iteration"):
            xgboost.Booster(self._parameters, [matrix]).update(matrix, iteration=0)

    def _scores(
        self, booster: xgboost.Booster, matrices: Mapping[str, xgboost.DMatrix]
    ) -> dict[str, float]:
        """Return each metric of each channel, by channel first."""
        line = booster.eval_set([(matrix, name) for name, matrix in matrices.items()])
        printed = [entry.partition("-") for entry in line.split()[1:]]  # `train-rmse:0.1`
        scores: dict[str, float] = {}
        for channel, matrix in matrices.items():
            values = [part.rpartition(":") for name, _, part in printed if name == channel]
            computed = {name: float(value) for name, _, value in values}
            if self._metrics:  # XGBoost prints some under another name, `error@0.50` as `error`
                names = dict.fromkeys(self._metrics.values())
                by_name = dict(zip(names, computed.values(), strict=True))
                computed = {asked: by_name[name] for asked, name in self._metrics.items()}
            scores |= {f"{channel}-{name}": score for name, score in computed.items()}
            if self._evaluate:
                for metric, score in self._evaluate(booster.predict(matrix), matrix):
                    scores[f"{channel}-{metric}"] = score
        return scores


def _content(booster: xgboost.Booster) -> bytes:
    return bytes(booster.save_raw(raw_format="ubj"))
