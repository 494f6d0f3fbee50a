"""What stands in for a missing predict_fn."""

from typing import Any

import numpy as np
import pytest
import xgboost
from scipy import sparse

from container.codecs.base import SparseRows
from container.errors import MalformedPayloadError, ModelLoadError
from serve import default_predict
from tests.unit.serve.conftest import SumModel


class RecordingModel(SumModel):
    """Keeps what it was given."""

    def predict(self, features: Any) -> Any:
        self.seen = features
        return np.zeros(1, dtype=np.float32)


@pytest.mark.parametrize(
    "data",
    [
        np.array([[1, 2], [3, 4]], dtype=np.float64),
        np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=np.float32)),
        [[1, 2], [3, 4]],
        np.array([["1", "2"], ["3", "4"]]),
    ],
)
def test_algorithms_model_gets_contiguous_float32(data: Any) -> None:
    """Whatever the user's input_fn made of the body."""
    model = RecordingModel()

    default_predict.with_algorithm(data, model)

    assert model.seen.dtype == np.float32
    assert model.seen.flags.c_contiguous
    assert model.seen.tolist() == [[1, 2], [3, 4]]


def test_algorithms_model_gets_one_record_as_a_table() -> None:
    """A flat array as wide as the model is a record."""
    assert default_predict.with_algorithm([1, 2], SumModel()).tolist() == [3.0]


def test_algorithms_model_gets_sparse_rows() -> None:
    """A SciPy matrix is not made dense: a cell that is not stored is missing, not zero."""
    model = RecordingModel()

    default_predict.with_algorithm(sparse.coo_matrix(np.array([[0, 1.5], [2, 0]])), model)

    assert isinstance(model.seen, SparseRows)
    assert model.seen.columns.tolist() == [1, 0]
    assert model.seen.values.tolist() == [1.5, 2.0]
    assert model.seen.offsets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([[1, 2, 3]], "3 features; the model takes 2"),
        ([1, 2, 3], r"shape \(3,\); the model takes \[n_rows, 2\]"),
        ([[[1, 2]]], r"shape \(1, 1, 2\)"),
        ([["a", "b"]], "not numbers"),
        (None, r"shape \(\)|shape \(1,\)"),
        (sparse.csr_matrix([[1, 2, 3]]), "3 features; the model takes 2"),
    ],
)
def test_algorithms_model_never_gets_what_it_would_read_wrongly(data: Any, problem: str) -> None:
    """C-057: a missing column is an error, never a missing value."""
    with pytest.raises(MalformedPayloadError, match=problem):
        default_predict.with_algorithm(data, SumModel())


def test_foreign_model_is_given_the_data_as_they_are() -> None:
    """scikit-learn's way."""

    class Foreign:
        def predict(self, data: Any) -> Any:
            return ("seen", data)

    default_predict.check_foreign(Foreign())
    assert default_predict.with_foreign("data", Foreign()) == ("seen", "data")


@pytest.mark.parametrize("model", [{"weights": []}, None, type("M", (), {"predict": 1})()])
def test_foreign_model_without_predict_is_refused(model: Any) -> None:
    """C-061: at start, with the function that is missing."""
    with pytest.raises(
        ModelLoadError, match=r"no predict\(data\); define predict_fn\(data, model\)"
    ):
        default_predict.check_foreign(model)


def test_booster_is_given_a_matrix_and_predicts_with_its_best_round() -> None:
    """XGBoost's own class takes no arrays, and by default uses every tree that it has."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 3)).astype(np.float32)
    labels = (rows[:, 0] + generator.normal(size=200)).astype(np.float32)
    train, held = (
        xgboost.DMatrix(rows[:100], labels[:100]),
        xgboost.DMatrix(rows[100:], labels[100:]),
    )
    booster = xgboost.train(
        {"eta": 1.0}, train, 50, evals=[(held, "held")], early_stopping_rounds=5, verbose_eval=False
    )
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    best = (0, booster.best_iteration + 1)
    expected = booster.predict(held, iteration_range=best)

    default_predict.check_foreign(booster)
    for data in (rows[100:], held, sparse.csr_matrix(rows[100:])):
        np.testing.assert_array_equal(default_predict.with_foreign(data, booster), expected)


def test_booster_that_was_not_stopped_early_uses_all_its_rounds() -> None:
    """There is no best one."""
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 3)

    predicted = default_predict.with_foreign(rows, booster)

    np.testing.assert_array_equal(predicted, booster.predict(xgboost.DMatrix(rows)))
