"""What stands in for a user's missing `predict_fn`: the model's own `predict`."""

import sys
from typing import Any

import numpy as np

from container.algorithms.base import Model
from container.codecs.base import Batch, Floats, SparseRows
from container.errors import MalformedPayloadError, ModelLoadError
from serve.invocation import check_width


def with_algorithm(data: Any, model: Model) -> Floats:
    """Predict with a model that an algorithm loaded.

    Args:
        data: An array, a table or a SciPy matrix.
        model: Takes float32 `[n_rows, n_features]`.
    Raises:
        MalformedPayloadError: the data are not numbers, or not as wide as the model.
    """
    features = _features(data, model.n_features)
    check_width(Batch(features), model.n_features)
    return model.predict(features)


def with_foreign(data: Any, model: Any) -> Any:
    """Predict with what a user's `model_fn` returned."""
    # Who made a Booster has imported the package; nobody else needs to.
    xgboost = sys.modules.get("xgboost")
    if xgboost is None or not isinstance(model, xgboost.Booster):
        return model.predict(data)
    matrix = data if isinstance(data, xgboost.DMatrix) else xgboost.DMatrix(data)
    # One that was stopped early predicts with its best round, as elsewhere in this container.
    best = model.attr("best_iteration")
    n_rounds = int(best) + 1 if best is not None else 0
    return model.predict(matrix, iteration_range=(0, n_rounds), validate_features=False)


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
