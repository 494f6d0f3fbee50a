"""Table of the outputs by objective, calculated by hand."""

import math
from typing import Any

import numpy as np
import pytest

from container.algorithms.xgboost.algorithm import ALGORITHM
from container.algorithms.xgboost.serving.outputs import select

NAN = math.nan
P = [0.2, 0.9]
SOFTPROB = [[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]
TABLE: dict[str, tuple[list[Any], dict[str, list[Any]]]] = {
    "reg:squarederror": ([1.5, -2.0], {"predicted_score": [1.5, -2.0]}),
    "reg:gamma": ([1.5, 2.0], {"predicted_score": [1.5, 2.0]}),
    "count:poisson": ([1.5, 2.0], {"predicted_score": [1.5, 2.0]}),
    "binary:logistic": (
        P,
        {
            "predicted_label": [0, 1],
            "labels": [[0, 1], [0, 1]],
            "probability": P,
            "probabilities": [[0.8, 0.2], [0.1, 0.9]],
            "raw_score": P,
            "raw_scores": [[0.8, 0.2], [0.1, 0.9]],
        },
    ),
    "binary:logitraw": (
        [-0.5, 2.0],
        {
            "predicted_label": [0, 1],
            "labels": [[0, 1], [0, 1]],
            "raw_score": [-0.5, 2.0],
            "raw_scores": [[1.5, -0.5], [-1.0, 2.0]],
        },
    ),
    "binary:hinge": (
        [0.0, 1.0],
        {
            "predicted_label": [0, 1],
            "labels": [[0, 1], [0, 1]],
            "raw_score": [0.0, 1.0],
            "raw_scores": [[1.0, 0.0], [0.0, 1.0]],
        },
    ),
    "multi:softmax": (
        [2.0, 0.0],
        {
            "predicted_label": [2, 0],
            "labels": [[0, 1, 2], [0, 1, 2]],
            "raw_score": [2.0, 0.0],
            "raw_scores": [[-1.0, 2.0], [1.0, 0.0]],
        },
    ),
    "multi:softprob": (
        SOFTPROB,
        {
            "predicted_label": [1, 0],
            "labels": [[0, 1, 2], [0, 1, 2]],
            "probability": [0.7, 0.5],
            "probabilities": SOFTPROB,
            "raw_score": [0.7, 0.5],
            "raw_scores": SOFTPROB,
        },
    ),
}


@pytest.mark.parametrize("objective", TABLE)
def test_every_key_is_what_the_table_says(objective: str) -> None:
    """C-099: a key that the objective does not have is NaN."""
    values, expected = TABLE[objective]
    n_classes = 3 if objective.startswith("multi:") else 2

    columns = select(
        np.array(values, dtype=np.float32),
        ALGORITHM.output_keys,
        objective=objective,
        n_classes=n_classes,
    )

    assert list(columns) == list(ALGORITHM.output_keys)
    for key, column in columns.items():
        wanted = np.array(expected.get(key, [NAN, NAN]), dtype=np.float64)
        np.testing.assert_allclose(column, wanted, atol=1e-6, err_msg=key)


def test_columns_come_in_the_order_asked_for() -> None:
    """The order of the setting is the order of the CSV."""
    columns = select(
        np.array(P, dtype=np.float32),
        ["probabilities", "predicted_label"],
        objective="binary:logistic",
        n_classes=2,
    )

    assert list(columns) == ["probabilities", "predicted_label"]


@pytest.mark.parametrize("objective", ["binary:logistic", "binary:logitraw", "binary:hinge"])
def test_several_binary_outputs_have_a_list_a_record_or_nothing(objective: str) -> None:
    """C-099: one label, probability or score for each output; both sides of each are no list."""
    values = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.8]], dtype=np.float32)

    columns = select(values, ALGORITHM.output_keys, objective=objective, n_classes=2)

    assert columns["predicted_label"].shape == (2, 3)
    np.testing.assert_array_equal(columns["raw_score"], values)
    for key in ("labels", "probabilities", "raw_scores", "predicted_score"):
        np.testing.assert_array_equal(columns[key], [NAN, NAN], err_msg=key)


def test_several_scores_of_a_record_are_a_list() -> None:
    """Quantiles, or the targets of a regression."""
    values = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)

    columns = select(values, ["predicted_score"], objective="reg:squarederror", n_classes=2)

    np.testing.assert_array_equal(columns["predicted_score"], values)
