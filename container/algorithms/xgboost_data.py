"""Channels of records to the matrices that XGBoost trains on."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse
import xgboost

from container.algorithms.base import Channel
from container.algorithms.xgboost_hyperparameters import XGBoostHyperparameters
from container.algorithms.xgboost_labels import check_labels
from container.codecs.base import Batch, SparseRows
from container.errors import ChannelError


def build_matrices(
    channels: Mapping[str, Channel],
    hyperparameters: XGBoostHyperparameters,
    parameters: Mapping[str, Any],
) -> dict[str, xgboost.DMatrix]:
    """One matrix a channel, `train` first.

    Histogram methods get quantised matrices built batch by batch, which give the very trees that
    the exact matrix gives; the other methods need all values at once.

    Args:
        channels: `train` and those to evaluate.
        hyperparameters: For the labels that the objective can learn from.
        parameters: What XGBoost will be given, `nthread` included.
    Raises:
        ChannelError: labels or widths that do not fit.
    """
    batches = {name: list(channels[name].batches()) for name in sorted(channels, key=_train_first)}
    width = _common_width(batches)
    for name, parts in batches.items():
        labels = [part.labels for part in parts if part.labels is not None]
        check_labels(np.concatenate(labels), hyperparameters, channel=name)
        _check_weights(parts, channel=name)
    is_censored = hyperparameters.objective == "survival:aft"
    matrices: dict[str, xgboost.DMatrix] = {}
    for name, parts in batches.items():
        if _uses_histograms(parameters):
            matrices[name] = xgboost.QuantileDMatrix(
                _BatchIterator(parts, width, is_censored=is_censored),
                ref=matrices.get("train"),
                nthread=parameters["nthread"],
                max_bin=parameters.get("max_bin"),
            )
        else:
            matrices[name] = _plain_matrix(parts, width, is_censored=is_censored)
    return matrices


def _train_first(name: str) -> tuple[bool, str]:
    return name != "train", name


def _uses_histograms(parameters: Mapping[str, Any]) -> bool:
    return (
        parameters.get("tree_method", "auto") in ("auto", "hist")
        and parameters.get("booster") != "gblinear"
        and "updater" not in parameters
    )


def _common_width(batches: Mapping[str, list[Batch]]) -> int:
    """Feature columns of `train`; sparse rows are as wide as the last column that occurs."""
    width = max(batch.n_features for batch in batches["train"])
    for name, parts in batches.items():
        for part in parts:
            is_sparse = isinstance(part.features, SparseRows)
            if part.n_features > width or (part.n_features < width and not is_sparse):
                raise ChannelError(
                    f"channel {name!r} has {part.n_features} feature columns where 'train' has "
                    f"{width}; give both the same columns"
                )
    return width


def _check_weights(batches: list[Batch], *, channel: str) -> None:
    weights = [batch.weights for batch in batches if batch.weights is not None]
    if weights and not any(part.any() for part in weights):
        raise ChannelError(f"channel {channel!r}: all weights are 0, so that no record counts")


class _BatchIterator(xgboost.DataIter):
    """Feeds batches to XGBoost, which reads them several times over."""

    def __init__(self, batches: list[Batch], width: int, *, is_censored: bool) -> None:
        super().__init__()
        self._batches = batches
        self._width = width
        self._is_censored = is_censored
        self._remaining: Iterator[Batch] = iter(())

    def next(self, input_data: Any) -> bool:
        batch = next(self._remaining, None)
        if batch is None:
            return False
        input_data(data=_features(batch, self._width), **_facts([batch], self._is_censored))
        return True

    def reset(self) -> None:
        self._remaining = iter(self._batches)


def _plain_matrix(batches: list[Batch], width: int, *, is_censored: bool) -> xgboost.DMatrix:
    parts = [_features(batch, width) for batch in batches]
    stack = scipy.sparse.vstack if scipy.sparse.issparse(parts[0]) else np.vstack
    return xgboost.DMatrix(stack(parts), **_facts(batches, is_censored))


def _features(batch: Batch, width: int) -> Any:
    if isinstance(batch.features, SparseRows):
        rows = batch.features
        return scipy.sparse.csr_matrix(
            (rows.values, rows.columns, rows.offsets), shape=(batch.n_rows, width)
        )
    return batch.features


def _facts(batches: list[Batch], is_censored: bool) -> dict[str, Any]:
    """Labels and weights; accelerated failure time takes the label as an exact, observed time."""
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    weights = [batch.weights for batch in batches if batch.weights is not None]
    facts: dict[str, Any] = {"label": labels}
    if weights:
        facts["weight"] = np.concatenate(weights)
    if is_censored:
        facts |= {"label_lower_bound": labels, "label_upper_bound": labels}
    return facts
