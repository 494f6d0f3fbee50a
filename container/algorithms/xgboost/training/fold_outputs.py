"""Scores and result files of a cross-validation.

cross_validation.json   mean, standard deviation and single scores of the models
predictions.csv         what was predicted for each record by models that had not seen it
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import xgboost
from numpy.typing import NDArray

from container.algorithms.xgboost.serving import outputs
from container.algorithms.xgboost.training.folds import Fold, Records
from container.algorithms.xgboost.training.trained_model import TrainedBooster
from container.codecs.records import Batch, Floats, SparseRows

SCORES, PREDICTIONS = "cross_validation.json", "predictions.csv"

Scores = Mapping[str, float]
Mask = NDArray[np.bool_]


def mean(folds: Sequence[Scores]) -> dict[str, float]:
    """Return the mean of each score."""
    return {name: float(np.mean([scores[name] for scores in folds])) for name in folds[0]}


def mean_importances(
    models: Sequence[Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Return the mean importance of each feature; 0 where a model does not use it."""
    means: dict[str, dict[str, float]] = {}
    for measure in models[0]:
        names = dict.fromkeys(name for model in models for name in model[measure])
        means[measure] = {
            name: float(np.mean([model[measure].get(name, 0.0) for model in models]))
            for name in names
        }
    return means


def write_scores(directory: Path, folds: Sequence[Scores], n_folds: int) -> None:
    """Write `cross_validation.json`; the standard deviation is that of the folds themselves."""
    content = {
        "n_folds": n_folds,
        "n_models": len(folds),
        "metrics": {
            name: {
                "mean": float(np.mean(values)),
                "std": float(np.std(values)),
                "folds": values,
            }
            for name in folds[0]
            for values in [[scores[name] for scores in folds]]
        },
    }
    (directory / SCORES).write_text(json.dumps(content, indent=2) + "\n")


def write_predictions(
    directory: Path,
    records: Records,
    models: Iterable[tuple[TrainedBooster, Mask]],
    *,
    is_classifier: bool,
) -> None:
    """Write `predictions.csv`, one line a record, in the order of `train` and `validation`.

    A line has the label, the mean probability and the commonest class, or else the label and the
    mean of each output, as AWS's XGBoost container writes them. Means are over the repetitions.
    Where a model names a class and nothing else, the probability is the share of the models that
    name it.

    Args:
        directory: Where to write.
        records: All of them.
        models: Each with the records, `[n_rows]`, that it has not seen.
        is_classifier: True for probabilities and classes, False for outputs.
    """
    labels = records.all_labels
    n_seen = np.zeros(len(labels))
    total = np.zeros((len(labels), 1))  # for several outputs it grows to as many columns
    votes: list[NDArray[np.int64]] = []  # of each repetition
    for model, is_held_out in models:
        values = _predict(model, Fold("validation", records, is_held_out))
        if is_classifier:
            values, classes = _probabilities(model.objective, values)
            repetition = int(n_seen[is_held_out].min())
            if repetition == len(votes):
                votes.append(np.zeros(len(labels), dtype=np.int64))
            votes[repetition][is_held_out] = classes
        values = values.reshape(len(values), -1)
        predicted = np.zeros((len(labels), values.shape[1]))
        predicted[is_held_out] = values
        total = total + predicted
        n_seen[is_held_out] += 1
    means = total / n_seen[:, np.newaxis]
    columns: list[NDArray[Any]] = [labels, means]
    if is_classifier:
        modal, share = _modal(np.stack(votes))
        columns = [labels, np.where(np.isnan(means[:, 0]), share, means[:, 0]), modal]
    np.savetxt(directory / PREDICTIONS, np.column_stack(columns), delimiter=",", fmt="%.9g")


def _probabilities(objective: str, values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the probability of each prediction, NaN for `multi:softmax`, and its class."""
    keys = ("probability", "predicted_label")
    chosen = outputs.select(values, keys, objective=objective, n_classes=2)
    probabilities: Floats = chosen["probability"]
    if objective == "binary:logitraw":
        probabilities = np.exp(-np.logaddexp(0, -values))  # the sigmoid, without overflow
    elif objective == "binary:hinge":
        probabilities = values  # 0 or 1: their mean is how many said 1
    return probabilities, chosen["predicted_label"]


def _modal(votes: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the most frequent vote on each record, the smallest of a tie, and its share of all.

    Args:
        votes: `[n_voters, n_rows]`, classes from 0.
    """
    n_classes = int(votes.max()) + 1
    counts = np.stack([(votes == name).sum(axis=0) for name in range(n_classes)])
    return np.argmax(counts, axis=0), counts.max(axis=0) / len(votes)


def _predict(model: TrainedBooster, fold: Fold) -> Floats:
    booster = model.booster()
    parts = [
        booster.predict(_matrix(batch), validate_features=False)  # its names are the channels' own
        for batch in fold.batches()
    ]
    values: Floats = np.concatenate(parts)
    return values


def _matrix(batch: Batch) -> xgboost.DMatrix:
    if isinstance(batch.features, SparseRows):
        rows = batch.features
        return xgboost.DMatrix(
            scipy.sparse.csr_matrix((rows.values, rows.columns, rows.offsets), shape=rows.shape)
        )
    return xgboost.DMatrix(batch.features)
