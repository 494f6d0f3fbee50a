"""`lightgbm.Booster` and scikit-learn style objects that a user's code made, to predict with."""

from typing import Any


class UserLightGBM:
    """See `container.algorithms.serving_contract.UserModel`.

    A classifier predicts labels, as its own `predict` does. Columns of categories of a pandas frame
    are numbered as in training.
    """

    def __init__(self, model: Any, booster: Any) -> None:
        self._model = model
        self._booster = booster
        names = tuple(booster.feature_name())
        is_placeholder = all(name == f"Column_{index}" for index, name in enumerate(names))
        self.feature_names = None if is_placeholder else names

    @property
    def n_features(self) -> int:
        n_features: int = self._booster.num_feature()
        return n_features

    @property
    def n_outputs(self) -> int:
        n_outputs: int = self._booster.num_model_per_iteration()
        return n_outputs

    def n_rows(self, data: Any) -> int | None:
        """Return None: LightGBM predicts for no data of a form of its own."""
        return None

    def predict(self, data: Any) -> Any:
        return self._model.predict(data)


def adopt(model: object) -> UserLightGBM | None:
    """Wrap a booster or an estimator of LightGBM's; None for another object."""
    from lightgbm import Booster

    if isinstance(model, Booster):
        return UserLightGBM(model, model)
    from lightgbm import LGBMModel

    if isinstance(model, LGBMModel):
        return UserLightGBM(model, model.booster_)
    return None
