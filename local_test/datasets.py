"""Real data for a first run: Wisconsin breast cancer, 569 rows, 30 features, two classes.

It comes with scikit-learn, so nothing is downloaded. Label 1 is benign, 0 is malignant.

Source: https://archive.ics.uci.edu/dataset/17/breast+cancer+wisconsin+diagnostic
"""

import importlib
import random
from collections.abc import Iterable
from dataclasses import dataclass

from local_test.ml_tree import MlTree

HYPERPARAMETERS = {
    "objective": "binary:logistic",
    "num_round": "50",
    "max_depth": "4",
    "eta": "0.2",
    "eval_metric": "error,logloss",  # early stopping watches the last one
    "early_stopping_rounds": "10",
}
CONTENT_TYPE = "text/csv"  # to SageMaker: no header, the label in the first column


class DatasetError(Exception):
    """The data cannot be had on this machine."""


@dataclass(frozen=True, slots=True)
class TabularDataset:
    """CSV without header. ``payload`` holds the features of ``validation``, row by row."""

    train: bytes
    validation: bytes
    payload: bytes
    validation_labels: tuple[int, ...]


def breast_cancer(validation_fraction: float = 0.2, seed: int = 0) -> TabularDataset:
    """Read the data set and split it; the same arguments give the same bytes.

    Raises:
        DatasetError: scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise DatasetError(
            "the data set comes with scikit-learn, which this Python does not have; run `make venv`"
            " and use .venv/bin/python, or `pip install scikit-learn`"
        ) from error
    loaded = datasets.load_breast_cancer()
    rows = [
        (int(label), ",".join(repr(value) for value in features))
        for label, features in zip(loaded.target, loaded.data.tolist(), strict=True)
    ]
    random.Random(seed).shuffle(rows)  # noqa: S311 -- a reproducible split, not a secret
    n_validation = round(len(rows) * validation_fraction)
    validation, train = rows[:n_validation], rows[n_validation:]
    return TabularDataset(
        train=_lines(f"{label},{features}" for label, features in train),
        validation=_lines(f"{label},{features}" for label, features in validation),
        payload=_lines(features for _, features in validation),
        validation_labels=tuple(label for label, _ in validation),
    )


def write_breast_cancer(ml: MlTree) -> TabularDataset:
    """Lay out a complete tree: hyperparameters and the channels ``train`` and ``validation``."""
    dataset = breast_cancer()
    ml.create()
    ml.write_hyperparameters(HYPERPARAMETERS)
    ml.write_channel("train", {"train.csv": dataset.train}, content_type=CONTENT_TYPE)
    ml.write_channel(
        "validation", {"validation.csv": dataset.validation}, content_type=CONTENT_TYPE
    )
    return dataset


def _lines(rows: Iterable[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()
