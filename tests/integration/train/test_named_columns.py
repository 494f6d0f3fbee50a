"""Names of columns from the training data to the answers of the served model (C-103)."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from container.errors import MalformedPayloadError
from tests.unit.train.conftest import Tree, as_csv
from tests.unit.train.test_named_columns import (
    HEADER,
    NAMES,
    as_table,
    bank,  # noqa: F401
    rows,  # noqa: F401
    scores,
    serve,
)
from train import job


def test_requests_are_answered_by_name(bank: Tree, rows: np.ndarray) -> None:
    """Text has no names, and is taken by position."""
    assert job.main(bank.environ) == 0, bank.failure
    servable = serve(bank)
    expected = scores(servable, as_csv(rows[:, 1:]), "text/csv")

    parquet = "application/x-parquet"
    for names in (NAMES, NAMES[::-1], [NAMES[1], NAMES[2], NAMES[0]]):
        np.testing.assert_array_equal(scores(servable, as_table(rows, names), parquet), expected)
    labelled = as_table(rows, HEADER[::-1])
    np.testing.assert_array_equal(scores(servable, labelled, f"{parquet};label_size=1"), expected)
    with pytest.raises(MalformedPayloadError, match="unknown: 'bought'; leave it out, or, if it"):
        scores(servable, labelled, parquet)
    with pytest.raises(MalformedPayloadError, match=r"missing: 'debt \[k\]'"):
        scores(servable, as_table(rows, NAMES[:2]), parquet)
    with pytest.raises(MalformedPayloadError, match="unknown: 'bought'"):
        scores(servable, as_table(rows, ["bought", *NAMES[1:]]), parquet)


def test_model_of_text_takes_columns_by_position(tree: Tree, rows: np.ndarray) -> None:
    """It has no names that they could be matched with."""
    tree.hyperparameters(objective="binary:logistic")
    tree.channel("train", {"part-0": as_csv(rows)})
    assert job.main(tree.environ) == 0, tree.failure
    servable = serve(tree)

    found = scores(servable, as_table(rows, NAMES), "application/x-parquet")

    np.testing.assert_array_equal(found, scores(servable, as_csv(rows[:, 1:]), "text/csv"))


def test_model_from_elsewhere_is_asked_for_its_names(tree: Tree, rows: np.ndarray) -> None:
    """`feature_names` is a part of XGBoost's own format, `feature_types` says no more (C-103)."""
    matrix = xgboost.DMatrix(
        rows[:, 1:3],
        rows[:, 0],
        feature_names=["age", "income"],
        feature_types=["float", "int"],
    )
    (tree.root / "model").mkdir()
    booster = xgboost.train({}, matrix, 3)
    booster.save_model(tree.root / "model" / "xgboost-model.json")
    body = io.BytesIO()
    pq.write_table(pa.table({"income": rows[:, 2], "age": rows[:, 1]}), body)

    found = scores(serve(tree), body.getvalue(), "application/x-parquet")

    np.testing.assert_allclose(found, booster.predict(matrix), rtol=1e-6)
