"""Trained XGBoost model: a booster as bytes, cut to its best round when it is saved."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost

from container.algorithms.xgboost.formats.discovery import MODEL_FILE
from container.manifest import Framework, ModelFacts


@dataclass(frozen=True, slots=True)
class TrainedBooster:
    """See `container.algorithms.training_contract.TrainedModel`; no later round changes the bytes.

    Args:
        content: Booster in UBJSON with every finished round.
        objective: Objective of the training.
        feature_names: Names of the features; None if the records had no names.
        best_iteration: Last round to keep; None keeps all.
        best_score: Score of that round on the metric of early stopping.
    """

    content: bytes
    objective: str
    feature_names: Sequence[str] | None = None
    best_iteration: int | None = None
    best_score: float | None = None

    def save(self, directory: Path) -> ModelFacts:
        """Write `xgboost-model` in UBJSON."""
        return self.save_as(directory / MODEL_FILE)

    def save_as(self, file: Path) -> ModelFacts:
        """Write the model to `file` and return facts about it."""
        booster = self.booster()
        file.write_bytes(booster.save_raw(raw_format="ubj"))
        return ModelFacts(
            framework=Framework(name="xgboost", version=xgboost.__version__),
            n_features=booster.num_features(),
            n_outputs=_n_outputs(booster),
            feature_names=list(self.feature_names) if self.feature_names else None,
            objective=self.objective,
            best_iteration=self.best_iteration,
        )

    def importances(self) -> dict[str, dict[str, float]]:
        """Return the importances by XGBoost's own measures; unused features are absent.

        A linear booster has one measure, `weight`: the sum of a feature's absolute coefficients.
        """
        booster = self.booster()
        name = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
        return {
            measure: {
                feature: float(np.abs(value).sum())
                for feature, value in booster.get_score(importance_type=measure).items()
            }
            for measure in (("weight",) if name == "gblinear" else ("weight", "gain", "cover"))
        }

    def booster(self) -> xgboost.Booster:
        """Return the booster as it is saved: XGBoost predicts from the file as the server does."""
        booster = xgboost.Booster(model_file=bytearray(self.content))
        # Only here: a matrix may not have every name that a column of a table may have.
        if self.feature_names:
            booster.feature_names = list(self.feature_names)
        if self.best_iteration is not None:
            if booster.num_boosted_rounds() > self.best_iteration + 1:
                booster = booster[: self.best_iteration + 1]
            booster.set_attr(
                best_iteration=str(self.best_iteration), best_score=str(self.best_score)
            )
        return booster


def _n_outputs(booster: xgboost.Booster) -> int:
    shape = booster.predict(
        xgboost.DMatrix(np.zeros((1, booster.num_features()), dtype=np.float32)),
        strict_shape=True,
        validate_features=False,
    ).shape
    return int(shape[1])
