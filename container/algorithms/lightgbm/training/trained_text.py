"""Trained LightGBM model: its text, cut to the best round when it is saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm

from container.algorithms.lightgbm.formats.model_text import MODEL_FILE
from container.manifest import Framework, ModelFacts


@dataclass(frozen=True, slots=True)
class TrainedText:
    """See `container.algorithms.training_contract.TrainedModel`; no later round changes the text.

    Args:
        content: Model in the text format with every finished round.
        objective: Objective of the training.
        feature_names: Names of the features; None if the records had no names.
        best_iteration: Last round to keep; None keeps all.
    """

    content: str
    objective: str
    feature_names: Sequence[str] | None = None
    best_iteration: int | None = None

    def save(self, directory: Path) -> ModelFacts:
        """Write `lightgbm-model.txt` and return facts about it."""
        booster = self._booster()
        text = booster.model_to_string(num_iteration=self._n_rounds(booster))
        (directory / MODEL_FILE).write_text(text, "utf-8")
        return ModelFacts(
            framework=Framework(name="lightgbm", version=lightgbm.__version__),
            n_features=booster.num_feature(),
            n_outputs=booster.num_model_per_iteration(),
            feature_names=list(self.feature_names) if self.feature_names else None,
            objective=self.objective,
            best_iteration=self.best_iteration,
        )

    def importances(self) -> dict[str, dict[str, float]]:
        """Return the importances by LightGBM's own measures; unused features are absent."""
        booster = self._booster()
        names = self.feature_names or booster.feature_name()
        return {
            measure: {
                name: float(value)
                for name, value in zip(
                    names,
                    booster.feature_importance(measure, iteration=self._n_rounds(booster)),
                    strict=True,
                )
                if value
            }
            for measure in ("split", "gain")
        }

    def _booster(self) -> lightgbm.Booster:
        return lightgbm.Booster(model_str=self.content)

    def _n_rounds(self, booster: lightgbm.Booster) -> int:
        if self.best_iteration is None:
            return int(booster.current_iteration())
        return self.best_iteration + 1
