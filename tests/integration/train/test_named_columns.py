"""Names of columns from the training data to the answers of the served model (C-103)."""

import numpy as np
import pytest

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
