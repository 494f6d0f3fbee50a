"""Default of a missing predict_fn."""

import logging
import sys
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import xgboost
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from container import cgroup
from container.algorithms import registry
from container.algorithms.serving_contract import UserModel
from container.codecs.records import SparseRows
from container.errors import MalformedPayloadError, ModelLoadError, OutOfMemoryError
from serve.user_code import default_predict
from tests.unit.serve.conftest import SumModel


class RecordingModel(SumModel):
    """Records its arguments."""

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
    """Converts the result of input_fn to contiguous float32."""
    model = RecordingModel()

    default_predict.with_algorithm(data, model)

    assert model.seen.dtype == np.float32
    assert model.seen.flags.c_contiguous
    assert model.seen.tolist() == [[1, 2], [3, 4]]


def test_algorithms_model_gets_one_record_as_a_table() -> None:
    """Takes a flat array as wide as the model for one record."""
    assert default_predict.with_algorithm([1, 2], SumModel()).tolist() == [3.0]


def test_algorithms_model_gets_sparse_rows() -> None:
    """Keeps a SciPy matrix sparse: a cell that is not stored is missing."""
    model = RecordingModel()

    default_predict.with_algorithm(sparse.coo_matrix(np.array([[0, 1.5], [2, 0]])), model)

    assert isinstance(model.seen, SparseRows)
    assert model.seen.columns.tolist() == [1, 0]
    assert model.seen.values.tolist() == [1.5, 2.0]
    assert model.seen.offsets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_any_form_of_scipy_is_predicted(form: str, kind: str) -> None:
    """Converts every sparse form of SciPy, its matrices and its arrays."""
    model = RecordingModel()

    data = getattr(sparse, f"{form}_{kind}")(np.array([[0, 1.5], [2, 0]]))
    default_predict.with_algorithm(data, model)

    assert model.seen.offsets.tolist() == [0, 1, 2]
    assert model.seen.columns.tolist() == [1, 0]
    assert model.seen.values.tolist() == [1.5, 2.0]


def test_one_sparse_record_is_a_table() -> None:
    """Takes a sparse array of one dimension for one record, as a flat array."""
    model = RecordingModel()

    default_predict.with_algorithm(sparse.coo_array(np.array([0, 1.5])), model)

    assert (model.seen.shape, model.seen.columns.tolist()) == ((1, 2), [1])


def test_cell_that_is_stored_twice_is_the_sum() -> None:
    """Reads duplicates as SciPy does, and leaves the user's matrix as it is."""
    model = RecordingModel()
    data = sparse.csr_matrix(([1.0, 2, 3], [1, 0, 1], [0, 3]), shape=(1, 2))

    default_predict.with_algorithm(data, model)

    assert (model.seen.columns.tolist(), model.seen.values.tolist()) == ([0, 1], [2, 4])
    assert data.indices.tolist() == [1, 0, 1]


@pytest.fixture
def adopted() -> UserModel:
    booster = xgboost.train({}, xgboost.DMatrix([[1, 2], [3, 4]], [0, 1]), 1)
    model = registry.adopt(booster)
    assert model is not None
    return model


@pytest.mark.parametrize("column", [-1, 2, 10**6])
def test_sparse_matrix_that_points_outside_is_refused(adopted: UserModel, column: int) -> None:
    """XGBoost would read out of bounds, and the worker would die."""
    data = sparse.csr_matrix([[1.0, 2]])
    data.indices[1] = column

    for predict in (
        lambda: default_predict.with_algorithm(data, SumModel()),
        lambda: default_predict.with_adopted(data, adopted),
    ):
        with pytest.raises(MalformedPayloadError, match="sparse matrix is not valid: indices"):
            predict()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([[1, 2, 3]], "3 features; the model takes 2"),
        ([1, 2, 3], r"shape \(3,\); the model takes \[n_rows, 2\]"),
        ([[[1, 2]]], r"shape \(1, 1, 2\)"),
        ([["a", "b"]], "not numbers"),
        (None, r"shape \(\)|shape \(1,\)"),
        (sparse.csr_matrix([[1, 2, 3]]), "3 features; the model takes 2"),
        (sparse.coo_array([1.0, 2, 3]), r"shape \(3,\); the model takes \[n_rows, 2\]"),
        (sparse.coo_array([[[1.0, 2]]]), r"shape \(1, 1, 2\)"),
        (np.array([[1j, 2]], dtype=object), "not numbers"),
        (sparse.csr_matrix([[1j, 2]]), "complex numbers"),
    ],
)
def test_algorithms_model_never_gets_what_it_would_read_wrongly(data: Any, problem: str) -> None:
    """Takes a missing column for an error, never for a missing value (C-057)."""
    with pytest.raises(MalformedPayloadError, match=problem):
        default_predict.with_algorithm(data, SumModel())


def test_foreign_model_is_given_the_data_as_they_are() -> None:
    """Reads `n_features_in_`, as scikit-learn has it."""

    class Foreign:
        def predict(self, data: Any) -> Any:
            return ("seen", data)

    default_predict.check_user_model(Foreign())
    assert default_predict.with_user_model("data", Foreign()) == ("seen", "data")


@pytest.mark.parametrize("model", [{"weights": []}, None, type("M", (), {"predict": 1})()])
def test_foreign_model_without_predict_is_refused(model: Any) -> None:
    """Fails at start, and names the missing function (C-061)."""
    with pytest.raises(
        ModelLoadError, match=r"no predict\(data\); define predict_fn\(data, model\)"
    ):
        default_predict.check_user_model(model)


def predicted(data: Any, model: Any) -> Any:
    """Return the prediction of the default `predict_fn` for a user's model."""
    predict, _ = default_predict.for_user_model(model)
    return predict(data, model)


def test_booster_is_given_a_matrix_and_predicts_with_its_best_round() -> None:
    """Converts arrays to a DMatrix, and predicts with the best round."""
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

    default_predict.check_user_model(booster)
    for data in (rows[100:], held, sparse.csr_matrix(rows[100:])):
        np.testing.assert_array_equal(predicted(data, booster), expected)


def test_booster_that_was_not_stopped_early_uses_all_its_rounds() -> None:
    """Uses all rounds where there is no best one."""
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 3)

    found = predicted(rows, booster)

    np.testing.assert_array_equal(found, booster.predict(xgboost.DMatrix(rows)))


def _table(n_columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(20, n_columns))
    return rows, np.arange(20) % 2


@pytest.fixture
def classifier() -> LogisticRegression:
    return LogisticRegression().fit(*_table())


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5], np.arange(1, 6)])
def test_one_record_is_a_table_for_a_model_that_tells_its_width(
    classifier: LogisticRegression, data: Any
) -> None:
    """Makes one record a table, as for an algorithm's model."""
    predicted = default_predict.with_user_model(data, classifier)

    assert predicted.tolist() == classifier.predict([[1, 2, 3, 4, 5]]).tolist()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (np.ones((2, 4)), "4 features; the model takes 5"),
        (np.ones((2, 6)), "6 features; the model takes 5"),
        (np.ones(4), r"shape \(4,\); the model takes \[n_rows, 5\]"),
        (np.ones((1, 1, 5)), r"shape \(1, 1, 5\)"),
        (np.array(["a"]), r"shape \(1,\); the model takes"),
        ([[1, 2, 3, 4, 5], [1]], "not all of the same length"),
        (None, r"shape \(\)"),
        (np.array([list("abcde")]), r"refuses these records \(<U1 of the shape \(1, 5\)\)"),
        (np.array([[1, np.nan, 3, 4, 5]]), "refuses these records .* missing values"),
        (sparse.csr_matrix(np.ones((1, 6))), "6 features; the model takes 5"),
    ],
)
def test_records_that_the_model_cannot_take_are_the_clients_fault(
    classifier: LogisticRegression, data: Any, problem: str
) -> None:
    """Answers 400, where the toolkit answers 500 (C-057)."""
    with pytest.raises(MalformedPayloadError, match=problem):
        default_predict.with_user_model(data, classifier)


def test_sparse_records_are_as_wide_as_the_model(classifier: LogisticRegression) -> None:
    """Widens sparse records to the model's number of features."""
    data = sparse.coo_matrix([[1.0, 0, 2, 0], [0, 3, 0, 0]])

    predicted = default_predict.with_user_model(data, classifier)

    dense = np.hstack([data.toarray(), np.zeros((2, 1))])
    assert predicted.tolist() == classifier.predict(dense).tolist()


def test_what_the_model_says_of_the_records_is_for_the_log_only(
    classifier: LogisticRegression, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs the model's message, and does not send it to the client."""
    caplog.set_level(logging.DEBUG)
    data = np.array([[1, 2, 3, 4, "secret"]], dtype=object)

    with pytest.raises(MalformedPayloadError) as caught:
        default_predict.with_user_model(data, classifier)

    assert "secret" not in caught.value.message
    (record,) = (record for record in caplog.records if record.levelno == logging.DEBUG)
    assert "secret" in logging.Formatter().format(record)


def test_sparse_records_for_a_model_of_dense_ones_are_refused() -> None:
    """Answers 400 where scikit-learn raises a TypeError (C-057)."""
    model = HistGradientBoostingClassifier(max_iter=2).fit(*_table())

    with pytest.raises(MalformedPayloadError, match="refuses these records"):
        default_predict.with_user_model(sparse.csr_matrix(np.ones((1, 5))), model)


def test_text_is_for_the_model_to_judge() -> None:
    """Passes text to the model, which may encode categories."""
    categories = np.array([["a", "x"], ["b", "y"]])
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(categories, [0, 1])

    assert default_predict.with_user_model(categories, model).tolist() == [0, 1]
    with pytest.raises(MalformedPayloadError):
        default_predict.with_user_model(np.array([["a", "new"]]), model)


@pytest.mark.parametrize("data", [np.ones((1, 4)), np.ones((1, 6)), np.array([list("abcde")])])
def test_booster_never_takes_a_missing_column_for_a_missing_value(data: Any) -> None:
    """Refuses four columns of five, for which XGBoost would predict (C-057)."""
    rows, labels = _table()
    booster = xgboost.train({}, xgboost.DMatrix(rows, labels), 2)

    with pytest.raises(MalformedPayloadError):
        predicted(data, booster)
    assert predicted(rows[0], booster).shape == (1,)
    assert predicted(sparse.csr_matrix(rows[:1, :4]), booster).shape == (1,)


class Doubling:
    """A fake adopted model, whose own form of data is a set."""

    feature_names = None
    n_features = n_outputs = 2

    def n_rows(self, data: Any) -> int | None:
        return len(data) if isinstance(data, set) else None

    def predict(self, data: Any) -> Any:
        return data if isinstance(data, set) else np.asarray(data) * 2


class Weights(list[int]):
    """A model object of the framework `tests`."""


class DoublingAlgorithm:
    def adopt(self, model: object) -> Doubling | None:
        return Doubling() if isinstance(model, Weights) else None


def test_models_of_any_algorithms_framework_are_adopted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Checks the width of an adopted model; skips broken plug-ins."""
    monkeypatch.setattr(sys.modules[__name__], "ALGORITHM", DoublingAlgorithm(), raising=False)
    framework = __name__.partition(".")[0]
    entries = [
        EntryPoint(framework, "no.such.module:ALGORITHM", registry.FRAMEWORKS),
        EntryPoint(framework, f"{__name__}:ALGORITHM", registry.FRAMEWORKS),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)

    assert predicted([1, 2], Weights([3])).tolist() == [[2, 4]]
    assert predicted({1, 2, 3}, Weights([3])) == {1, 2, 3}
    with pytest.raises(MalformedPayloadError, match="3 features; the model takes 2"):
        predicted([[1, 2, 3]], Weights([3]))
    assert "algorithm_not_loaded" in caplog.messages
    assert registry.adopt((3,)) is None


class Failing:
    """A model without a number of features."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def predict(self, data: Any) -> Any:
        raise self._error


def test_value_error_of_any_model_is_the_clients_fault() -> None:
    """Answers 400 to a ValueError (C-057)."""
    with pytest.raises(MalformedPayloadError, match=r"\(list\)"):
        default_predict.with_user_model([[1], [2, 3]], Failing(ValueError("no")))


class Refused(ValueError):
    status_code, message = 422, "no such animal"


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), Refused()])
def test_other_errors_of_the_model_go_on_as_they_are(error: Exception) -> None:
    """Raises other errors unchanged: bugs, and errors with a status."""
    with pytest.raises(type(error)) as caught:
        default_predict.with_user_model([[1]], Failing(error))

    assert caught.value is error


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: 2**24)


@pytest.mark.usefixtures("_little_memory")
def test_answer_for_which_there_is_no_room_is_refused() -> None:
    """Refuses an answer that does not fit into memory."""

    class WideModel(SumModel):
        n_outputs = 10**6

    with pytest.raises(OutOfMemoryError, match="1 record of 1000000 predicted values"):
        default_predict.with_algorithm([[1, 2]], WideModel())

    labels = np.arange(30) % 3
    matrix = xgboost.DMatrix(np.zeros((30, 2)), label=labels)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, matrix, 1)
    with pytest.raises(OutOfMemoryError, match="90000 records of 3 predicted values"):
        predicted(np.zeros((90_000, 2)), booster)
    assert predicted(np.zeros((2, 2)), booster).shape == (2, 3)
