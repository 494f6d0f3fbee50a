"""Outputs that `SAGEMAKER_INFERENCE_OUTPUT` selects from a prediction of LightGBM's.

The names are those of the XGBoost algorithm, which has them from AWS's container.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs.records import Floats

Column = NDArray[Any]

_BINARY: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda p: (p > 0.5).astype(np.int64),
    "labels": lambda p: np.tile(np.arange(2), (len(p), 1)),
    "probability": lambda p: p,
    "probabilities": lambda p: np.column_stack([1 - p, p]),
}
_CLASSES: dict[str, Callable[[Floats], Column]] = {
    "predicted_label": lambda p: p.argmax(axis=1),
    "labels": lambda p: np.tile(np.arange(p.shape[1]), (len(p), 1)),
    "probability": lambda p: p.max(axis=1),
    "probabilities": lambda p: p,
}
_SCORE: dict[str, Callable[[Floats], Column]] = {"predicted_score": lambda value: value}
_BY_OBJECTIVE = {"binary": _BINARY, "multiclass": _CLASSES, "multiclassova": _CLASSES}

OUTPUT_KEYS = (*_SCORE, *_BINARY)


def select(values: Floats, keys: Sequence[str], *, objective: str | None) -> dict[str, Column]:
    """Return the outputs that `keys` name; NaN for an output that the objective does not have.

    Args:
        values: Predictions, float32 `[n_rows]` or `[n_rows, n_classes]`.
        keys: Some of `OUTPUT_KEYS`.
        objective: The model's; None for one of the user's own.
    Returns:
        Arrays `[n_rows]` or `[n_rows, k]` in the order of `keys`.
    """
    makers = _BY_OBJECTIVE.get(objective or "", _SCORE)
    nothing = np.full(len(values), np.nan, dtype=np.float32)
    return {key: makers[key](values) if key in makers else nothing for key in keys}
