"""Columns with names where a user's code leaves decoding, predicting or both to the container."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.linear_model import LinearRegression

from container.errors import MalformedPayloadError
from serve.user_code import default_predict
from tests.unit.serve.conftest import SumModel

NAMES = ["age", "income"]
ROWS = np.random.default_rng(0).random((40, 2)).astype(np.float32)
LABELS = ROWS[:, 0] - 3 * ROWS[:, 1]


def booster() -> xgboost.Booster:
    return xgboost.train({}, xgboost.DMatrix(ROWS, LABELS, feature_names=NAMES), 5)


class Frame:
    """The part of a pandas or polars table that the container uses."""

    def __init__(self, names: Sequence[str]) -> None:
        self.columns = list(names)
        self._cells = ROWS[:, [NAMES.index(name) for name in names]]
        self.shape = self._cells.shape

    def __getitem__(self, names: list[str]) -> "Frame":
        return Frame(names)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._cells.astype(dtype or np.float32)


def test_table_of_a_users_input_fn_is_put_in_the_order_of_an_algorithms_model() -> None:
    """A data frame of input_fn is matched by name."""
    model = SumModel()
    model.feature_names = ("age", "income")  # type: ignore[attr-defined]
    seen: list[Any] = []
    model.predict = lambda data: seen.append(data) or np.zeros(1)  # type: ignore

    default_predict.with_algorithm(Frame(["income", "age"]), model)
    default_predict.with_algorithm(ROWS[:, ::-1], model)

    np.testing.assert_array_equal(seen[0], ROWS)
    np.testing.assert_array_equal(seen[1], ROWS[:, ::-1])  # without names, by position
    with pytest.raises(MalformedPayloadError, match="missing: 'income'"):
        default_predict.with_algorithm(Frame(["age"]), model)


def test_table_of_a_users_input_fn_is_put_in_the_order_of_a_booster() -> None:
    model = booster()

    predict, _ = default_predict.for_user_model(model)
    found = predict(Frame(["income", "age"]), model)

    expected = model.predict(xgboost.DMatrix(ROWS, feature_names=NAMES))
    np.testing.assert_array_equal(found, expected)


class _Fitted:
    """Has feature names as a scikit-learn model."""

    feature_names_in_ = np.array(NAMES, dtype=object)


class _NotFitted:
    @property
    def feature_names_in_(self) -> Any:
        raise AttributeError("fit it first")


class _Placeholders:
    """Has LightGBM's placeholder names for an array."""

    feature_names_in_ = np.array(["Column_0", "Column_1"])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (_Fitted(), ("age", "income")),
        (LinearRegression().fit(ROWS, LABELS), None),
        (booster(), ("age", "income")),
        (_NotFitted(), None),
        (_Placeholders(), None),
        (object(), None),
    ],
)
def test_models_that_say_what_their_features_are_called(
    model: Any, names: tuple[str, ...] | None
) -> None:
    assert default_predict.for_user_model(model)[1] == names
