"""`xgboost.Booster` objects that a user's code made, as models to predict with."""

import json
from functools import cached_property
from typing import Any


class UserBooster:
    """See `container.algorithms.serving_contract.UserModel`; its own data are `xgboost.DMatrix`."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self.feature_names = tuple(booster.feature_names or ()) or None

    @property
    def n_features(self) -> int:
        n_features: int = self._booster.num_features()
        return n_features

    @cached_property
    def n_outputs(self) -> int:
        parameters = json.loads(self._booster.save_config())["learner"]["learner_model_param"]
        return max(1, int(parameters["num_class"]), int(parameters["num_target"]))

    def n_rows(self, data: Any) -> int | None:
        from xgboost import DMatrix

        return data.num_row() if isinstance(data, DMatrix) else None

    def predict(self, data: Any) -> Any:
        from xgboost import DMatrix

        matrix = data if isinstance(data, DMatrix) else DMatrix(data)
        # A model that was stopped early predicts with its best round, as elsewhere in this
        # container. XGBoost itself would use every tree.
        best = self._booster.attr("best_iteration")
        n_rounds = int(best) + 1 if best is not None else 0
        rounds = (0, n_rounds)
        return self._booster.predict(matrix, iteration_range=rounds, validate_features=False)


def adopt(model: object) -> UserBooster | None:
    """Wrap an `xgboost.Booster`; None for another object."""
    from xgboost import Booster

    return UserBooster(model) if isinstance(model, Booster) else None
