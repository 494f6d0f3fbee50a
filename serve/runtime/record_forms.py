"""Records in the form that a model takes: without missing values, or without sparse rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.algorithms.serving_contract import Capabilities
from container.codecs.records import SparseRows, check_unpacked_size
from container.codecs.table.table import Table, described
from container.errors import MalformedPayloadError


def prepared(
    records: NDArray[Any] | SparseRows | Table,
    capabilities: Capabilities,
    names: tuple[str, ...] | None,
    n_features: int,
) -> NDArray[Any] | SparseRows | Table:
    """Return the records as a model of these capabilities takes them.

    Args:
        records: Sparse ones may be narrower than the model.
        capabilities: Of the algorithm.
        names: Of the columns, for messages.
        n_features: Number of columns that the model takes, if the records are numbers.
    Raises:
        MalformedPayloadError: with record and column: a value is missing that the model needs.
    """
    if isinstance(records, SparseRows) and not capabilities.takes_sparse:
        records = _dense(records, n_features)
    if not capabilities.takes_missing:
        _check_complete(records, names)
    return records


def _dense(rows: SparseRows, n_features: int) -> NDArray[np.float32]:
    n_rows = rows.shape[0]
    check_unpacked_size(n_rows, n_features)
    dense = np.full((n_rows, n_features), np.nan, dtype=np.float32)
    index = np.repeat(np.arange(n_rows), np.diff(rows.offsets))
    dense[index, rows.columns] = rows.values
    return dense


def _check_complete(
    records: NDArray[Any] | SparseRows | Table, names: tuple[str, ...] | None
) -> None:
    if isinstance(records, SparseRows):
        return  # a model that takes them says what an absent cell means
    if isinstance(records, Table):
        place = records.first_missing()
    else:
        missing = np.isnan(records)
        found = np.argwhere(missing)[0] if missing.any() else None
        place = None if found is None else (int(found[0]), int(found[1]))
    if place is not None:
        record, column = place
        raise MalformedPayloadError(
            f"{described(names, column)}: the value is missing, and the model needs one",
            record=record + 1,
        )
