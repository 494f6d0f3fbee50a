"""Loaded XGBoost models: one, or an ensemble.

A model that was stopped early predicts with its best iteration, as in AWS's container. XGBoost's
own `Booster.predict` uses every tree in the file, which moved probabilities by up to 0.5 in a test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from container.algorithms.xgboost.formats import validation
from container.algorithms.xgboost.formats.discovery import read_model
from container.algorithms.xgboost.serving.c_api import (
    Booster,
    XGBoostLibraryError,
    installed_version,
    prediction_config,
)
from container.codecs import column_names
from container.codecs.records import Floats, SparseRows, rows
from container.errors import ModelLoadError, PredictionError, counted

# Bounds of a block. XGBoost keeps, for every thread, a buffer of the largest prediction of a model,
# even after the model is freed.
_BLOCK_VALUES = 2**15
_BLOCK_CELLS = 2**22
# Objectives whose predictions are classes: an average of classes is not a class.
_VOTING = ("multi:softmax", "binary:hinge")


class XGBoostModel:
    """See `container.algorithms.serving_contract.NamedModel`. Thread-safe and fork-safe."""

    def __init__(
        self,
        file: Path,
        *,
        best_iteration: int | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        """Load `file`.

        Args:
            file: The model in any form that `read_model` reads.
            best_iteration: The last round to predict with; by default the file's own.
            feature_names: Names of the features; by default the file's own.
        Raises:
            ModelLoadError: the file cannot be read, or this XGBoost cannot read the model.
        """
        content, missing, names = read_model(file)
        try:
            self._booster = Booster(content, n_threads=1)
            self.n_features = self._booster.n_features()
            names = tuple(feature_names or self._booster.feature_names() or names)
            self.feature_names = _checked_names(names, self.n_features, file.name)
            learner = self._booster.config()["learner"]
            is_linear = learner["gradient_booster"]["name"] == "gblinear"
            n_rounds = 0
            if not is_linear:
                n_rounds = _rounds(self._booster, learner, best_iteration, file.name)
        except XGBoostLibraryError as error:
            raise ModelLoadError(f"{file.name} cannot be loaded: {error}") from error
        self.objective: str = learner["objective"]["name"]
        parameters = learner["learner_model_param"]
        self.n_classes = max(2, int(parameters["num_class"]))
        self.n_outputs = max(1, int(parameters["num_class"]), int(parameters["num_target"]))
        self._block_rows = max(1, _BLOCK_VALUES // self.n_outputs)
        # XGBoost unpacks up to 64 sparse records at a time.
        self._sparse_block_rows = max(
            1, min(self._block_rows, _BLOCK_CELLS // (self.n_features or 1))
        )
        self._predict = self._booster.predict_by_matrix if is_linear else self._booster.predict
        self._config = prediction_config(n_rounds=n_rounds, missing=missing)

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.serving_contract.Model.predict`."""
        n_rows, block_rows = features.shape[0], self._block_rows
        if isinstance(features, SparseRows):  # may be narrower than the model: empty last columns
            features = replace(features, n_columns=self.n_features)
            block_rows = self._sparse_block_rows
        try:
            if n_rows <= block_rows:
                return self._predict(features, self._config)
            bounds = [*range(0, n_rows, block_rows), n_rows]
            blocks = (rows(features, *block) for block in pairwise(bounds))
            return np.concatenate([self._predict(block, self._config) for block in blocks])
        except XGBoostLibraryError as error:
            raise PredictionError(f"XGBoost cannot predict for these records: {error}") from error


class XGBoostEnsemble:
    """Several models that predict together: the mean, or the majority of predicted classes."""

    def __init__(self, models: Sequence[XGBoostModel]) -> None:
        first = models[0]
        self._models = models
        self.n_features = first.n_features
        self.feature_names = next(
            (each.feature_names for each in models if each.feature_names), None
        )
        self.objective = first.objective
        self.n_classes = first.n_classes
        # The values of all models are in memory at once.
        self.n_outputs = sum(model.n_outputs for model in models)
        for model in models:
            if (model.n_features, model.objective) != (first.n_features, first.objective):
                raise ModelLoadError(
                    "the models of the ensemble do not match: "
                    f"{first.objective} of {counted(first.n_features, 'feature')} and "
                    f"{model.objective} of {model.n_features}"
                )
            if model.feature_names not in (None, self.feature_names):
                raise ModelLoadError(
                    "the models of the ensemble do not match: the features of some are "
                    f"{column_names.listed(self.feature_names or ())} and of others "
                    f"{column_names.listed(model.feature_names or ())}"
                )

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.serving_contract.Model.predict`."""
        votes = np.stack([model.predict(features) for model in self._models])
        if self.objective not in _VOTING:
            mean: Floats = votes.mean(axis=0, dtype=np.float32)
            return mean
        # The smallest class among those with the most votes.
        counts = np.stack([(votes == name).sum(axis=0) for name in range(self.n_classes)])
        winners: Floats = np.argmax(counts, axis=0).astype(np.float32)
        return winners


def verify(files: Sequence[Path]) -> Floats:
    """Validate models that this XGBoost might misread or crash on.

    Returns:
        Records that reach leaves of the first model, float32 `[n, n_features]`.
    Raises:
        ModelLoadError: with the file and the problem.
    """
    records = [
        validation.check(read_model(file).content, file.name, installed_version()) for file in files
    ]
    return records[0]


def preload() -> None:
    """Load the library, the only one-time cost of the first model."""
    installed_version()


def _checked_names(names: tuple[str, ...], n_features: int, file: str) -> tuple[str, ...] | None:
    """Return the names of all features, or None for a model without names."""
    if names and (len(names) != n_features or len(set(names)) < n_features):
        raise ModelLoadError(
            f"{file} has {counted(len(set(names)), 'name')} for {counted(n_features, 'feature')}; "
            "each needs a name of its own, or none has one"
        )
    return names or None


def _rounds(
    booster: Booster, learner: Mapping[str, Any], best_iteration: int | None, name: str
) -> int:
    """Return the number of rounds to predict with; 0 means all."""
    n_trees = None
    if best_iteration is None:
        best_iteration = _number(booster, "best_iteration", name)
        n_trees = _number(booster, "best_ntree_limit", name)
    if best_iteration is None:
        return 0
    n_rounds = best_iteration + 1
    # XGBoost 1.5 does not store how many trees a round has, so that the installed one takes each
    # for a round; but it stores the number of trees in the best rounds. A number that later
    # training left behind is not a multiple of the rounds.
    if n_trees is not None and n_rounds > 0 and n_trees % n_rounds == 0:
        n_rounds = n_trees // _trees_a_round(learner["gradient_booster"])
    if not 0 < n_rounds <= booster.n_rounds():
        # XGBoost would read out of bounds.
        raise ModelLoadError(
            f"{name}: best_iteration is {best_iteration} of {counted(booster.n_rounds(), 'round')}"
        )
    return n_rounds


def _trees_a_round(gradient_booster: Mapping[str, Any]) -> int:
    forest = gradient_booster.get("gbtree", gradient_booster)  # a dart has it inside
    return max(1, int(forest["gbtree_model_param"]["num_parallel_tree"]))


def _number(booster: Booster, attribute: str, name: str) -> int | None:
    text = booster.attribute(attribute)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ModelLoadError(f"{name}: {attribute} is {text[:20]!r}, not a number") from error
