"""Default of a script without `predict_fn`: the `predict` method of its model."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from container.algorithms import registry
from container.algorithms.serving_contract import Model, UserModel, n_outputs
from container.codecs import column_names
from container.codecs.answers import Answers
from container.codecs.records import Columns, Floats, SparseRows
from container.errors import MalformedPayloadError, ModelLoadError, counted
from serve.invocation import feature_names
from serve.runtime.answer_memory import room_for

logger = logging.getLogger(__name__)


def with_algorithm(data: Any, model: Model) -> Answers:
    """Predict with a model that an algorithm loaded.

    Args:
        data: An array, a table or a SciPy matrix.
        model: Takes float32 `[n_rows, n_features]`.
    Raises:
        MalformedPayloadError: the data are not numbers, or have another width than the model.
    """
    data = _in_order(data, feature_names(model))
    features = _features(data, model.n_features)
    _check_width(features, model.n_features)
    with room_for(features.shape[0], n_outputs(model)):
        return model.predict(features)


def for_user_model(
    model: Any,
) -> tuple[Callable[[Any, Any], Any], tuple[str, ...] | None]:
    """Return the default `predict_fn(data, model)` and the feature names of a user's model.

    Args:
        model: Returned by `model_fn`. It has names if it is of a framework whose algorithm is part
            of this container, or has `feature_names_in_` as in scikit-learn; otherwise None.
    """
    adopted = registry.adopt(model)
    if adopted is None:
        return with_user_model, _checked(getattr(model, "feature_names_in_", None))
    return lambda data, _: with_adopted(data, adopted), adopted.feature_names


def with_adopted(data: Any, model: UserModel) -> Any:
    """Predict with a model of a framework whose algorithm is part of this container.

    Args:
        data: The result of `input_fn`: data in the framework's own form, or a table
            `[n_rows, n_features]`, or one record `[n_features]`.
        model: The user's model, adopted by the algorithm.
    Raises:
        MalformedPayloadError: the data have another width than the model, or `predict` refused
            them.
        OutOfMemoryError: there is no room for an answer of so many values.
    """
    n_rows = model.n_rows(data)
    if n_rows is None:
        data = _in_order(_as_table(data, model.n_features), model.feature_names)
        data = _compressed(data) if hasattr(data, "tocsr") else data
        n_rows = np.shape(data)[0]
    with room_for(n_rows, model.n_outputs):
        return _predict(model, data, (ValueError, TypeError))


def with_user_model(data: Any, model: Any) -> Any:
    """Predict with a model that a user's `model_fn` returned.

    Args:
        data: The result of `input_fn`. For a model with a number of features (`n_features_in_`, as
            in scikit-learn) it is `[n_rows, n_features]` or one record `[n_features]`.
        model: Has `predict(data)`.
    Raises:
        MalformedPayloadError: the data have another width than the model, or `predict` refused
            them. The model's own message may quote them: only the log has it, at level debug.
    """
    width = getattr(model, "n_features_in_", None)
    if not isinstance(width, int | np.integer):
        return _predict(model, data, (ValueError,))
    # scikit-learn raises TypeError for a sparse matrix.
    return _predict(model, _as_table(data, int(width)), (ValueError, TypeError))


def _predict(model: Any, data: Any, refusals: tuple[type[Exception], ...]) -> Any:
    try:
        return model.predict(data)
    except refusals as error:
        if hasattr(error, "status_code"):  # the model's author chose a status
            raise
        logger.debug("records_refused_by_model", exc_info=True)
        raise MalformedPayloadError(
            f"the model refuses these records ({_described(data)}); text and missing values are "
            "the usual reasons"
        ) from error


def _as_table(data: Any, width: int) -> Any:
    """Return a table as wide as the model; one record becomes a table of one row."""
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
        rows = data.tocsr()  # the last columns are empty in all records of this request
        return type(rows)((rows.data, rows.indices, rows.indptr), shape=(shape[0], width))
    if shape[1] != width:
        raise MalformedPayloadError(
            f"the records have {counted(shape[1], 'feature')}; the model takes {width}"
        )
    return data


def _described(data: Any) -> str:
    shape, dtype = getattr(data, "shape", None), getattr(data, "dtype", None)
    return type(data).__name__ if shape is None else f"{dtype or 'table'} of the shape {shape}"


def _checked(names: Any) -> tuple[str, ...] | None:
    is_list = isinstance(names, list | tuple | np.ndarray)
    if not is_list or not all(isinstance(name, str) for name in names):
        return None
    # LightGBM's for data without names.
    is_placeholder = all(name == f"Column_{index}" for index, name in enumerate(names))
    return None if is_placeholder else tuple(map(str, names))


def _in_order(data: Any, names: tuple[str, ...] | None) -> Any:
    """Put the columns of a table in the order of the model's, if both have names (C-103)."""
    if names is None or not hasattr(data, "columns") or not hasattr(data, "shape"):
        return data
    columns = list(data.columns)
    if not all(isinstance(column, str) for column in columns):
        return data
    indices = column_names.for_model(columns, Columns(feature_names=names))
    return data if indices is None else data[list(names)]


def check_user_model(model: Any) -> None:
    """Raise `ModelLoadError` for a model without `predict`."""
    if not callable(getattr(model, "predict", None)):
        raise ModelLoadError(
            f"model_fn returned an object of type {type(model).__name__}, which has no "
            "predict(data); define predict_fn(data, model)"
        )


def _features(data: Any, n_features: int) -> Floats | SparseRows:
    is_sparse = hasattr(data, "tocsr")  # of SciPy
    try:
        table = data if is_sparse else np.asarray(data)
        is_complex = table.dtype.kind == "c"  # a cast would drop the imaginary part
        table = table if is_sparse else np.ascontiguousarray(table, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise MalformedPayloadError("the records are not numbers") from error
    if is_complex:
        raise MalformedPayloadError("the records are complex numbers; the model takes real ones")
    if table.shape == (n_features,):  # one record
        table = table.reshape(1, -1)
    if table.ndim != 2:
        raise MalformedPayloadError(
            f"the data have the shape {table.shape}; the model takes [n_rows, {n_features}]"
        )
    if not is_sparse:
        return table
    rows = _compressed(table)
    return SparseRows(
        rows.indptr.astype(np.int64),
        rows.indices.astype(np.int32),
        rows.data.astype(np.float32),
        rows.shape[1],
    )


def _compressed(data: Any) -> Any:
    """Return a SciPy matrix `[n_rows, n_columns]` in compressed sparse row form, each cell once.

    Raises:
        MalformedPayloadError: its parts contradict each other; XGBoost would read out of bounds.
    """
    rows = data.tocsr()
    try:
        rows.check_format(full_check=True)
    except ValueError as error:
        raise MalformedPayloadError(f"the sparse matrix is not valid: {error}") from error
    if not rows.has_canonical_format:
        rows = rows.copy()  # it may be the user's own object
        rows.sum_duplicates()
    return rows


def _check_width(features: Floats | SparseRows, n_features: int) -> None:
    """Refuse a missing column, which is never a missing value; sparse records may be narrower."""
    width = features.shape[1]
    if width > n_features or (width < n_features and not isinstance(features, SparseRows)):
        hint = "; leave out a label or an index" if width == n_features + 1 else ""
        raise MalformedPayloadError(
            f"the records have {counted(width, 'feature')}; the model takes {n_features}{hint}"
        )
