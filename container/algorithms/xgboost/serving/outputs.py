"""Outputs that `SAGEMAKER_INFERENCE_OUTPUT` selects from a prediction, by objective.

Source: the table of outputs in AWS's XGBoost container.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs.records import Floats

Column = NDArray[Any]


def _pair(values: Floats) -> Column:
    """Return both sides of a binary decision, `[n_rows, 2]`."""
    return np.column_stack([1 - values, values])


_BINARY: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda p: (p > 0.5).astype(np.int64),
    "probability": lambda p: p,
    "probabilities": _pair,
    "raw_score": lambda p: p,
    "raw_scores": _pair,
}
_LOGITRAW: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda raw: (raw > 0).astype(np.int64),
    "raw_score": lambda raw: raw,
    "raw_scores": _pair,
}
_HINGE: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda value: value.astype(np.int64),
    "raw_score": lambda value: value,
    "raw_scores": _pair,
}
_SOFTMAX = _HINGE
_SOFTPROB: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda p: p.argmax(axis=1),
    "probability": lambda p: p.max(axis=1),
    "probabilities": lambda p: p,
    "raw_score": lambda p: p.max(axis=1),
    "raw_scores": lambda p: p,
}
# Regression, ranking, counts and survival: the prediction is a score and nothing else.
_SCORE: dict[str, Callable[[Floats], Column]] = {"predicted_score": lambda value: value}
# Outputs of a single decision a record: NaN for a model with several outputs.
_OF_ONE_DECISION = ("labels", "probabilities", "raw_scores")
_BY_OBJECTIVE = {
    "binary:logistic": _BINARY,
    "binary:logitraw": _LOGITRAW,
    "binary:hinge": _HINGE,
    "multi:softmax": _SOFTMAX,
    "multi:softprob": _SOFTPROB,
}


def select(
    values: Floats, keys: Sequence[str], *, objective: str, n_classes: int
) -> dict[str, Column]:
    """Return the outputs that `keys` name; NaN for an output that the objective does not have.

    Args:
        values: Predictions, float32 `[n_rows]`; `[n_rows, n_classes]`, or `[n_rows, n_outputs]` of
            a model with several outputs.
        keys: Some of the algorithm's `output_keys`.
        objective: The model's.
        n_classes: 2 for a binary objective.
    Returns:
        Arrays `[n_rows]` or `[n_rows, k]` in the order of `keys`.
    """
    makers = _BY_OBJECTIVE.get(objective, _SCORE)
    is_one_decision = values.ndim == 1 or makers is _SOFTPROB
    columns: dict[str, Column] = {}
    for key in keys:
        if key in _OF_ONE_DECISION and not is_one_decision:
            columns[key] = np.full(len(values), np.nan, dtype=np.float32)
        elif key == "labels" and makers is not _SCORE:
            columns[key] = np.tile(np.arange(n_classes), (len(values), 1))
        elif key in makers:
            columns[key] = makers[key](values)
        else:
            columns[key] = np.full(len(values), np.nan, dtype=np.float32)
    return columns
