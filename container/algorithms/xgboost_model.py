"""Trained XGBoost models, loaded to predict: one, or several that vote.

A model that was stopped early predicts with its best iteration: XGBoost's own `Booster.predict`
and AWS's image use every tree that is in the file, which moved probabilities by up to 0.5 in a
test.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from container.algorithms import xgboost_structure
from container.algorithms.xgboost_files import read_model
from container.algorithms.xgboost_library import (
    Booster,
    XGBoostLibraryError,
    installed_version,
    prediction_config,
)
from container.codecs.base import Floats, SparseRows
from container.errors import ModelLoadError, PredictionError

# Objectives whose predictions are classes: an average of classes would be none of them.
_VOTING = ("multi:softmax", "binary:hinge")


class XGBoostModel:
    """See `container.algorithms.base.Model`. Thread-safe; usable in a forked process."""

    def __init__(self, file: Path, *, best_iteration: int | None = None) -> None:
        """Load `file`.

        Args:
            file: The model in UBJSON or JSON, or in a pickled booster.
            best_iteration: The last round to predict with; by default what the file itself says.
        Raises:
            ModelLoadError: the file cannot be read or is not a model that this XGBoost knows.
        """
        content = read_model(file)
        try:
            self._booster = Booster(content, n_threads=1)
            self.n_features = self._booster.n_features()
            learner = self._booster.config()["learner"]
            is_linear = learner["gradient_booster"]["name"] == "gblinear"
            if best_iteration is None:
                best_iteration = _number(self._booster.attribute("best_iteration"), file.name)
            n_rounds = 0
            if best_iteration is not None and not is_linear:
                n_rounds = _checked(best_iteration, self._booster.n_rounds(), file.name) + 1
        except XGBoostLibraryError as error:
            raise ModelLoadError(f"{file.name} cannot be loaded: {error}") from error
        self.objective: str = learner["objective"]["name"]
        self.n_classes = max(2, int(learner["learner_model_param"]["num_class"]))
        self._predict = self._booster.predict_by_matrix if is_linear else self._booster.predict
        self._config = prediction_config(n_rounds=n_rounds)

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.base.Model.predict`."""
        if isinstance(features, SparseRows):  # only as wide as the last column that occurs in it
            features = replace(features, n_columns=self.n_features)
        try:
            return self._predict(features, self._config)
        except XGBoostLibraryError as error:
            raise PredictionError(f"XGBoost cannot predict for these records: {error}") from error


class XGBoostEnsemble:
    """Several models that predict together: by mean, or by majority where they name classes."""

    def __init__(self, models: Sequence[XGBoostModel]) -> None:
        first = models[0]
        self._models = models
        self.n_features = first.n_features
        self.objective = first.objective
        self.n_classes = first.n_classes
        for model in models:
            if (model.n_features, model.objective) != (first.n_features, first.objective):
                raise ModelLoadError(
                    "the models of the ensemble do not go together: "
                    f"{first.objective} of {first.n_features} features and "
                    f"{model.objective} of {model.n_features}"
                )

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.base.Model.predict`."""
        votes = np.stack([model.predict(features) for model in self._models])
        if self.objective not in _VOTING:
            mean: Floats = votes.mean(axis=0, dtype=np.float32)
            return mean
        # The smallest class among those with the most votes.
        counts = np.stack([(votes == name).sum(axis=0) for name in range(self.n_classes)])
        winners: Floats = np.argmax(counts, axis=0).astype(np.float32)
        return winners


def verify(files: Sequence[Path]) -> None:
    """Refuse models that this XGBoost would misread, or crash on.

    Raises:
        ModelLoadError: with the file and what is wrong.
    """
    for file in files:
        xgboost_structure.check(read_model(file), file.name, installed_version())


def _number(attribute: str | None, name: str) -> int | None:
    if attribute is None:
        return None
    try:
        return int(attribute)
    except ValueError as error:
        raise ModelLoadError(
            f"{name}: best_iteration is {attribute[:20]!r}, not a number"
        ) from error


def _checked(best_iteration: int, n_rounds: int, name: str) -> int:
    """XGBoost reads memory that is not its own when asked for rounds that are not there."""
    if not 0 <= best_iteration < n_rounds:
        raise ModelLoadError(f"{name}: best_iteration is {best_iteration} of {n_rounds} rounds")
    return best_iteration
