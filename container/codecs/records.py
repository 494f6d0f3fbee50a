"""Types shared by all codecs (batches, columns, outputs), and the limits of a request's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import MalformedPayloadError, counted

Floats = NDArray[np.float32]
QueryIds = NDArray[np.int64]
NamedOutputs = Mapping[str, NDArray[Any]]
"""Outputs by name, in the order to write: numbers `[n_rows]` or `[n_rows, k]`, NaN for no value."""

# Decompression-bomb limit: a compressed body may unpack to 128 MiB of float32, about as much as the
# largest body of batch transform (100 MB) holds as text.
MAX_CELLS = 2**25
MAX_UNPACKED_BYTES = 8 * MAX_CELLS
_CELLS_OF_A_PREDICTION = 16
# XGBoost and scipy count columns in 32 bits.
MAX_COLUMNS = 2**31 - 1
# The smallest number that rounds to infinity: half a step above the largest finite float32.
FLOAT32_OVERFLOW = float(2**128 - 2**103)
# From here on a 32-bit float does not hold every whole number, and tables are read as such floats.
_QUERY_ID_LIMIT = 2**24


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Records in compressed sparse row form; a cell that is not stored is missing."""

    offsets: NDArray[np.int64]  # [n_rows + 1], the start of each row in `columns` and `values`
    columns: NDArray[np.int32]
    values: Floats
    n_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.offsets) - 1, self.n_columns


def rows(features: Floats | SparseRows, start: int, stop: int) -> Floats | SparseRows:
    """Return the records from `start` up to and without `stop`."""
    if not isinstance(features, SparseRows):
        return features[start:stop]
    first, last = int(features.offsets[start]), int(features.offsets[stop])
    return SparseRows(
        features.offsets[start : stop + 1] - first,
        features.columns[first:last],
        features.values[first:last],
        features.n_columns,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded records.

    `features` is float32 `[n_rows, n_features]`, C-contiguous with NaN for a missing cell, or
    sparse. `labels` and `weights` are float32 `[n_rows]`, or None if the records have none.
    `query_ids`, int64 `[n_rows]` or None, name the list that each record of a ranking belongs to.
    """

    features: Floats | SparseRows
    labels: Floats | None = None
    weights: Floats | None = None
    query_ids: QueryIds | None = None

    @property
    def n_rows(self) -> int:
        return int(self.features.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.features.shape[1])


@dataclass(frozen=True, slots=True)
class Columns:
    """Layout of a record: a label or none, a weight or none, and the features.

    If `n_features` is known, a record of another width is refused before the body is unpacked;
    sparse records may be narrower. `libsvm_base` is the number of the first column in libsvm, 0 or
    1; None lets each body decide, as `libsvm_codec` explains. If `feature_names` are known, formats
    whose columns have names match them by name. A training job may have query ids in
    `group_column`, a name or an index among all columns.
    """

    label_size: int = 0
    has_weight: bool = False
    n_features: int | None = None
    libsvm_base: int | None = 0
    feature_names: tuple[str, ...] | None = None  # in the order of the features
    group_column: int | str | None = None

    @property
    def n_leading(self) -> int:
        return self.label_size + self.has_weight

    @property
    def n_others(self) -> int:
        """Number of columns of a dense record that are not features."""
        return self.n_leading + (self.group_column is not None)

    def located(self, names: Sequence[str]) -> "Columns":
        """Return a copy with the index of the group column, for records whose columns have names.

        Raises:
            MalformedPayloadError: no column has the name of the group column, or several do.
        """
        if not isinstance(self.group_column, str):
            return self
        if names.count(self.group_column) != 1:
            raise MalformedPayloadError(
                f"group_column={self.group_column!r} is the name of "
                f"{names.count(self.group_column) or 'no'} columns; name one"
            )
        return replace(self, group_column=names.index(self.group_column))

    def features_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the features, given those of all columns.

        Raises:
            MalformedPayloadError: as in `located`.
        """
        group = self.located(names).group_column
        return tuple(
            name for index, name in enumerate(names) if index >= self.n_leading and index != group
        )

    def number(self, feature: int) -> int:
        """Return the number, from 1, of the column of the feature with this index."""
        index = self.n_leading + feature
        is_behind_group = isinstance(self.group_column, int) and index >= self.group_column
        return index + is_behind_group + 1

    @property
    def width(self) -> int | None:
        """Number of columns that a dense record must have; None if any number is accepted."""
        return None if self.n_features is None else self.n_features + self.n_others

    @property
    def expectation(self) -> str:
        """Description of the width for messages; empty if any number is accepted."""
        if self.n_features is None:
            return ""
        leading = "a label, " * self.label_size + "a weight, " * self.has_weight
        expected = f"{self.width} {'is' if self.width == 1 else 'are'} expected"
        return (
            f"{expected}: {leading}{counted(self.n_features, 'feature')}" if leading else expected
        )


def dense_batch(rows: Floats, columns: Columns) -> Batch:
    """Split label, weight and query id off the features of `rows`, float32 `[n_rows, n_columns]`.

    Raises:
        MalformedPayloadError: no feature column is left, or a query id is not a whole number.
    """
    if not columns.n_others and rows.shape[1]:  # as in almost every request
        return Batch(np.ascontiguousarray(rows))
    _check_has_features(rows.shape[1], columns)
    return Batch(
        features=np.ascontiguousarray(_features(rows, columns)),
        labels=rows[:, 0].copy() if columns.label_size else None,
        weights=rows[:, columns.label_size].copy() if columns.has_weight else None,
        query_ids=_query_ids(rows, columns),
    )


def _features(rows: Floats, columns: Columns) -> Floats:
    features = rows[:, columns.n_leading :]
    if columns.group_column is None:
        return features
    return np.delete(features, _group_index(rows, columns) - columns.n_leading, axis=1)


def _query_ids(rows: Floats, columns: Columns, *, n_before: int = 0) -> QueryIds | None:
    """Return the query ids of records that follow `n_before` others of the same source."""
    if columns.group_column is None:
        return None
    index = _group_index(rows, columns)
    ids = rows[:, index]
    is_good = (ids >= 0) & (ids < _QUERY_ID_LIMIT) & (ids == np.floor(ids))
    if not is_good.all():
        raise MalformedPayloadError(
            f"the query id must be a whole number from 0 to {_QUERY_ID_LIMIT - 1}",
            record=n_before + int(is_good.argmin()) + 1,
            column=index + 1,
        )
    return ids.astype(np.int64)


def _group_index(rows: Floats, columns: Columns) -> int:
    index = columns.group_column
    if isinstance(index, str):
        raise MalformedPayloadError(
            f"group_column={index!r} is a name, and the columns of this format have none; give the "
            "number of the column, counted from 0"
        )
    if index is None or not columns.n_leading <= index < rows.shape[1]:
        raise MalformedPayloadError(
            f"the group column is number {index}, which must be in {columns.n_leading} to "
            f"{rows.shape[1] - 1}: label and weight are before, and the last is {rows.shape[1] - 1}"
        )
    return index


class DenseRows:
    """Collector of dense records, part by part, in memory that is allocated once."""

    def __init__(self, n_rows: int, width: int, columns: Columns) -> None:
        """Make room for at most `n_rows` records of `width` columns.

        The system commits memory as it is filled, so `n_rows` may be far too high.

        Raises:
            MalformedPayloadError: no feature column is left.
        """
        _check_has_features(width, columns)
        self._columns = columns
        self._n_rows = 0
        self._features = np.empty((n_rows, width - columns.n_others), dtype=np.float32)
        self._labels = np.empty(n_rows if columns.label_size else 0, dtype=np.float32)
        self._weights = np.empty(n_rows if columns.has_weight else 0, dtype=np.float32)
        self._query_ids: list[QueryIds] = []

    def add(self, rows: Floats) -> None:
        """Add records, `[n, width]`."""
        part = slice(self._n_rows, self._n_rows + len(rows))
        query_ids = _query_ids(rows, self._columns, n_before=self._n_rows)
        if query_ids is not None:
            self._query_ids.append(query_ids)
        self._n_rows = part.stop
        self._features[part] = _features(rows, self._columns)
        if self._columns.label_size:
            self._labels[part] = rows[:, 0]
        if self._columns.has_weight:
            self._weights[part] = rows[:, self._columns.label_size]

    def batch(self) -> Batch:
        """Return all records; nothing can be added afterwards."""
        n_rows, columns = self._n_rows, self._columns
        self._features.resize((n_rows, self._features.shape[1]), refcheck=False)
        self._labels.resize(n_rows if columns.label_size else 0, refcheck=False)
        self._weights.resize(n_rows if columns.has_weight else 0, refcheck=False)
        return Batch(
            features=self._features,
            labels=self._labels if columns.label_size else None,
            weights=self._weights if columns.has_weight else None,
            query_ids=np.concatenate(self._query_ids) if self._query_ids else None,
        )


def sparse_batch(rows: SparseRows, columns: Columns) -> Batch:
    """Return a batch of records without labels.

    Raises:
        MalformedPayloadError: labels are required, which sparse formats do not have.
    """
    if columns.n_leading:
        raise MalformedPayloadError("sparse records have no label column; leave label_size at 0")
    return Batch(rows)


def _check_has_features(width: int, columns: Columns) -> None:
    if width <= columns.n_others:
        beside = (
            "label and weight" if columns.group_column is None else "label, weight and query id"
        )
        raise MalformedPayloadError(
            f"the records have {counted(width, 'column')}, of which {beside} take "
            f"{columns.n_others}: no features are left"
        )


def check_width(n_columns: int, columns: Columns) -> None:
    """Raise `MalformedPayloadError` unless dense records have the expected width."""
    if columns.width not in (None, n_columns):
        problem = f"the records have {counted(n_columns, 'column')} where {columns.expectation}"
        hint = width_hint(n_columns, columns)
        raise MalformedPayloadError(f"{problem}; {hint}" if hint else problem)


def width_hint(n_columns: int, columns: Columns) -> str:
    """Guess the column that is one too many; empty for other widths."""
    if columns.width is None or n_columns != columns.width + 1:
        return ""
    if columns.label_size:
        return "is one of them an index? leave it out"
    return (
        "is the first one a label or an index? leave it out, or declare a label by label_size=1 in "
        "the content type"
    )


def check_finite(rows: Floats, *, n_before: int = 0) -> None:
    """Raise `MalformedPayloadError` with record and column of the first infinite value.

    Args:
        rows: `[n_rows, n_columns]`.
        n_before: Number of earlier records of the same source.
    """
    infinite = np.isinf(rows)
    if infinite.any():
        record, column = (int(index) + 1 for index in np.argwhere(infinite)[0])
        raise MalformedPayloadError(
            "the number does not fit a 32-bit float", record=n_before + record, column=column
        )


def check_unpacked_size(n_rows: int, n_columns: int) -> None:
    """Raise `MalformedPayloadError` for a decompression bomb, before the records are unpacked.

    A few bytes can encode millions of records. The limit is `MAX_CELLS` values; a record counts as
    16 values at least, since even an empty one costs a prediction.
    """
    if n_rows * max(n_columns, _CELLS_OF_A_PREDICTION) > MAX_CELLS:
        raise MalformedPayloadError(
            f"the body unpacks to {counted(n_rows, 'record')} of {counted(n_columns, 'column')}; "
            f"the limit is {MAX_CELLS} values, {MAX_CELLS // _CELLS_OF_A_PREDICTION} records; send "
            "fewer at once"
        )
