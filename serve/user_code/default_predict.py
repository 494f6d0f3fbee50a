"""What stands in for a user's missing `predict_fn`: the model's own `predict`."""

import json
import logging
import sys
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from container.algorithms.contract import Model, n_outputs
from container.codecs import column_names
from container.codecs.records import Batch, Columns, Floats, SparseRows
from container.errors import MalformedPayloadError, ModelLoadError
from serve.invocation import check_width, feature_names
from serve.runtime.answer_memory import room_for

logger = logging.getLogger(__name__)

_outputs: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # of Boosters


def with_algorithm(data: Any, model: Model) -> Floats:
    """Predict with a model that an algorithm loaded.

    Args:
        data: An array, a table or a SciPy matrix.
        model: Takes float32 `[n_rows, n_features]`.
    Raises:
        MalformedPayloadError: the data are not numbers, or not as wide as the model.
    """
    data = _in_order(data, feature_names(model))
    features = _features(data, model.n_features)
    check_width(Batch(features), model.n_features)
    with room_for(features.shape[0], n_outputs(model)):
        return model.predict(features)


def with_foreign(data: Any, model: Any) -> Any:
    """Predict with what a user's `model_fn` returned.

    Args:
        data: Whatever `input_fn` made of the body. Where the model tells its number of features
            (`n_features_in_` as in scikit-learn, an XGBoost Booster) it is `[n_rows, n_features]`
            or one record `[n_features]`.
        model: Has `predict(data)`.
    Raises:
        MalformedPayloadError: the data are not as wide as the model, or `predict` refused them. Its
            own text may quote them, and is in the log only, at level debug.
    """
    # Who made a Booster has imported the package; nobody else needs to.
    xgboost = sys.modules.get("xgboost")
    predict, width = model.predict, getattr(model, "n_features_in_", None)
    if xgboost is not None and isinstance(model, xgboost.Booster):
        predict, width = partial(_predict_with_booster, xgboost, model), model.num_features()
    refusals: tuple[type[Exception], ...] = (ValueError,)
    if isinstance(width, int | np.integer):
        data = _as_table(data, int(width))
        refusals = (ValueError, TypeError)  # scikit-learn has the latter for a sparse matrix
    try:
        return predict(data)
    except refusals as error:
        if hasattr(error, "status_code"):  # the model's author has chosen a status
            raise
        logger.debug("records_refused_by_model", exc_info=True)
        raise MalformedPayloadError(
            f"the model does not take these records ({_described(data)}); text and missing values "
            "are the usual reasons"
        ) from error


def _as_table(data: Any, width: int) -> Any:
    """One record becomes a table of one row; what is not as wide as the model is refused."""
    if hasattr(data, "num_col"):  # an XGBoost DMatrix, which `input_fn` has made
        return data
    try:
        shape = np.shape(data)
    except ValueError as error:
        raise MalformedPayloadError("the records are not all of the same length") from error
    if shape == (width,):
        return np.reshape(data, (1, width))
    if len(shape) != 2:
        raise MalformedPayloadError(
            f"the data have the shape {shape}; the model takes [n_rows, {width}]"
        )
    if shape[1] < width and hasattr(data, "tocsr"):
        rows = data.tocsr()  # no record of this request has a cell in the last columns
        return type(rows)((rows.data, rows.indices, rows.indptr), shape=(shape[0], width))
    if shape[1] != width:
        raise MalformedPayloadError(
            f"the records have {shape[1]} features; the model takes {width}"
        )
    return data


def _described(data: Any) -> str:
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", None)
    return type(data).__name__ if shape is None else f"{dtype or 'table'} of the shape {shape}"


def _predict_with_booster(xgboost: ModuleType, model: Any, data: Any) -> Any:
    if not isinstance(data, xgboost.DMatrix):
        data = xgboost.DMatrix(_in_order(data, _checked(model.feature_names)))
    if model not in _outputs:
        parameters = json.loads(model.save_config())["learner"]["learner_model_param"]
        _outputs[model] = max(1, int(parameters["num_class"]), int(parameters["num_target"]))
    # One that was stopped early predicts with its best round, as elsewhere in this container.
    best = model.attr("best_iteration")
    n_rounds = int(best) + 1 if best is not None else 0
    with room_for(data.num_row(), _outputs[model]):
        return model.predict(data, iteration_range=(0, n_rounds), validate_features=False)


def foreign_names(model: Any) -> tuple[str, ...] | None:
    """What a model that a user's `model_fn` returned calls its features: an XGBoost Booster, or one
    with `feature_names_in_` as in scikit-learn."""
    xgboost = sys.modules.get("xgboost")
    if xgboost is not None and isinstance(model, xgboost.Booster):
        return _checked(model.feature_names)
    return _checked(getattr(model, "feature_names_in_", None))


def _checked(names: Any) -> tuple[str, ...] | None:
    is_list = isinstance(names, list | tuple | np.ndarray)
    if not is_list or not all(isinstance(name, str) for name in names):
        return None
    # LightGBM's for data without names.
    is_placeholder = all(name == f"Column_{place}" for place, name in enumerate(names))
    return None if is_placeholder else tuple(map(str, names))


def _in_order(data: Any, names: tuple[str, ...] | None) -> Any:
    """A table in the order of the model's features, if both have names (C-103)."""
    if names is None or not hasattr(data, "columns") or not hasattr(data, "shape"):
        return data
    columns = list(data.columns)
    if not all(isinstance(column, str) for column in columns):
        return data
    places = column_names.for_model(columns, Columns(feature_names=names))
    return data if places is None else data[list(names)]


def check_foreign(model: Any) -> None:
    """Raises ModelLoadError where `with_foreign` could not predict."""
    if not callable(getattr(model, "predict", None)):
        raise ModelLoadError(
            f"model_fn returned an object of type {type(model).__name__}, which has no "
            "predict(data); define predict_fn(data, model)"
        )


def _features(data: Any, n_features: int) -> Floats | SparseRows:
    if hasattr(data, "tocsr"):  # a SciPy matrix
        rows = data.tocsr()
        return SparseRows(
            rows.indptr.astype(np.int64),
            rows.indices.astype(np.int32),
            rows.data.astype(np.float32),
            rows.shape[1],
        )
    try:
        table = np.ascontiguousarray(data, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise MalformedPayloadError("the records are not numbers") from error
    if table.ndim == 1 and len(table) == n_features:  # one record
        table = table.reshape(1, -1)
    if table.ndim != 2:
        raise MalformedPayloadError(
            f"the data have the shape {table.shape}; the model takes [n_rows, {n_features}]"
        )
    return table
