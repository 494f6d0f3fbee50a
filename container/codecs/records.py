"""What every codec speaks: batches of records in, predictions out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import MalformedPayloadError

Floats = NDArray[np.float32]
QueryIds = NDArray[np.int64]

# What a compressed body may unpack to: 128 MiB of float32, about what the largest body of batch
# transform (100 MB) holds as text.
MAX_CELLS = 2**25
MAX_UNPACKED_BYTES = 8 * MAX_CELLS
_CELLS_OF_A_PREDICTION = 16
# XGBoost and scipy count columns in 32 bits.
MAX_COLUMNS = 2**31 - 1
# The smallest number that is rounded to infinity: half a step above the largest finite one.
FLOAT32_OVERFLOW = float(2**128 - 2**103)
# Whole numbers from here on are not all told apart in 32-bit floats, as which tables are read.
_QUERY_ID_LIMIT = 2**24


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Records in compressed sparse row form; a cell that is not stored is missing."""

    offsets: NDArray[np.int64]  # [n_rows + 1], where each row starts in `columns` and `values`
    columns: NDArray[np.int32]
    values: Floats
    n_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.offsets) - 1, self.n_columns


def rows(features: Floats | SparseRows, start: int, stop: int) -> Floats | SparseRows:
    """The records from `start` up to, without, `stop`."""
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
    sparse. `labels` and `weights` are float32 `[n_rows]`, or None where the records have none.
    `query_ids`, int64 `[n_rows]` or None, say which list each record of a ranking belongs to.
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
    """The columns of a record: a label or none, a weight or none, and the features.

    Where `n_features` is known, a record of another width is refused at once, before a body of any
    size is unpacked; sparse records may be narrower. `libsvm_base` is the number of the first
    column in libsvm, 0 or 1; None lets each body decide, as `libsvm_codec` explains. Where
    `feature_names` are known, formats whose columns have names match them by name. A training
    job may have query ids in `group_column`, a number from 0 (the label's) or a name.
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
        """How many columns of a dense record are no features."""
        return self.n_leading + (self.group_column is not None)

    def located(self, names: Sequence[str]) -> "Columns":
        """The same with the number of the group column, for records whose columns have names.

        Raises:
            MalformedPayloadError: no column has that name, or several do.
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
        """The names of the features, given those of all columns.

        Raises:
            MalformedPayloadError: as `located` does.
        """
        group = self.located(names).group_column
        return tuple(
            name for place, name in enumerate(names) if place >= self.n_leading and place != group
        )

    def number(self, feature: int) -> int:
        """The number, from 1, of the column that holds a feature, counted from 0."""
        place = self.n_leading + feature
        is_behind_group = isinstance(self.group_column, int) and place >= self.group_column
        return place + is_behind_group + 1

    @property
    def width(self) -> int | None:
        """How many columns a dense record must have, or None if any number will do."""
        return None if self.n_features is None else self.n_features + self.n_others

    @property
    def expectation(self) -> str:
        """The same in words, for messages; nothing if any number will do."""
        if self.n_features is None:
            return ""
        leading = "a label, " * self.label_size + "a weight, " * self.has_weight
        if not leading:
            return f"{self.width} are expected"
        plural = "s" if self.n_features > 1 else ""
        return f"{self.width} are expected: {leading}{self.n_features} feature{plural}"


@dataclass(frozen=True, slots=True)
class Selected:
    """The outputs of `SAGEMAKER_INFERENCE_OUTPUT` for every record.

    `columns` has float32 or integers for every one of `keys`: `[n_rows]`, or `[n_rows, k]` for a
    key whose value is a list; NaN where a key has no value.
    """

    keys: tuple[str, ...]  # in the order in which they were asked for
    columns: dict[str, NDArray[Any]]

    @property
    def n_rows(self) -> int:
        return len(self.columns[self.keys[0]])


def dense_batch(rows: Floats, columns: Columns) -> Batch:
    """Split label, weight and query id off the features of `rows`, float32 `[n_rows, n_columns]`.

    Raises:
        MalformedPayloadError: no feature column is left, or a query id is not one.
    """
    if columns.n_others == 0 < rows.shape[1]:  # as in almost every request
        return Batch(np.ascontiguousarray(rows))
    _refuse_no_features(rows.shape[1], columns)
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
    return np.delete(features, _group_place(rows, columns) - columns.n_leading, axis=1)


def _query_ids(rows: Floats, columns: Columns, *, n_before: int = 0) -> QueryIds | None:
    """The query ids of records; `n_before` records of the same source went before."""
    if columns.group_column is None:
        return None
    place = _group_place(rows, columns)
    ids = rows[:, place]
    is_good = (ids >= 0) & (ids < _QUERY_ID_LIMIT) & (ids == np.floor(ids))
    if not is_good.all():
        raise MalformedPayloadError(
            f"the query id must be a whole number from 0 to {_QUERY_ID_LIMIT - 1}",
            record=n_before + int(is_good.argmin()) + 1,
            column=place + 1,
        )
    return ids.astype(np.int64)


def _group_place(rows: Floats, columns: Columns) -> int:
    place = columns.group_column
    if isinstance(place, str):
        raise MalformedPayloadError(
            f"group_column={place!r} is a name, and the columns of this format have none; give the "
            "number of the column, counted from 0"
        )
    if place is None or not columns.n_leading <= place < rows.shape[1]:
        raise MalformedPayloadError(
            f"the group column is number {place}, which must be in {columns.n_leading} to "
            f"{rows.shape[1] - 1}: label and weight are before, and the last is {rows.shape[1] - 1}"
        )
    return place


class DenseRows:
    """Collects dense records part by part, in memory that is allocated once."""

    def __init__(self, n_rows: int, width: int, columns: Columns) -> None:
        """Make room for at most `n_rows` records of `width` columns.

        The system gives memory as it is filled, so `n_rows` may be far too high.

        Raises:
            MalformedPayloadError: no feature column is left.
        """
        _refuse_no_features(width, columns)
        self._columns = columns
        self._n_rows = 0
        self._features = np.empty((n_rows, width - columns.n_others), dtype=np.float32)
        self._labels = np.empty(n_rows if columns.label_size else 0, dtype=np.float32)
        self._weights = np.empty(n_rows if columns.has_weight else 0, dtype=np.float32)
        self._query_ids: list[QueryIds] = []

    def add(self, rows: Floats) -> None:
        """Add records, `[n, width]`."""
        place = slice(self._n_rows, self._n_rows + len(rows))
        query_ids = _query_ids(rows, self._columns, n_before=self._n_rows)
        if query_ids is not None:
            self._query_ids.append(query_ids)
        self._n_rows = place.stop
        self._features[place] = _features(rows, self._columns)
        if self._columns.label_size:
            self._labels[place] = rows[:, 0]
        if self._columns.has_weight:
            self._weights[place] = rows[:, self._columns.label_size]

    def batch(self) -> Batch:
        """All records; nothing can be added after that."""
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
    """A batch of records without labels.

    Raises:
        MalformedPayloadError: labels are asked for, which these formats have no place for.
    """
    if columns.n_leading:
        raise MalformedPayloadError("sparse records have no label column; leave label_size at 0")
    return Batch(rows)


def _refuse_no_features(width: int, columns: Columns) -> None:
    if width <= columns.n_others:
        beside = "label and weight" if columns.group_column is None else "label, weight or query id"
        raise MalformedPayloadError(
            f"the records have {width} columns, of which {columns.n_others} are {beside}: no "
            "features are left"
        )


def refuse_width(n_columns: int, columns: Columns) -> None:
    """Raises `MalformedPayloadError` if dense records of `n_columns` are not of the width that is
    expected."""
    if columns.width not in (None, n_columns):
        problem = f"the records have {n_columns} columns where {columns.expectation}"
        hint = width_hint(n_columns, columns)
        raise MalformedPayloadError(f"{problem}; {hint}" if hint else problem)


def width_hint(n_columns: int, columns: Columns) -> str:
    """Which column may be the one that dense records have too many; nothing for other widths."""
    if columns.width is None or n_columns != columns.width + 1:
        return ""
    if columns.label_size:
        return "is one of them an index? leave it out"
    return (
        "is the first one a label or an index? leave it out, or declare a label by label_size=1 in "
        "the content type"
    )


def refuse_infinity(rows: Floats, *, n_before: int = 0) -> None:
    """Raises `MalformedPayloadError` with the place of the first infinite value.

    Args:
        rows: `[n_rows, n_columns]`.
        n_before: How many records of the same source went before.
    """
    infinite = np.isinf(rows)
    if infinite.any():
        record, column = (int(place) + 1 for place in np.argwhere(infinite)[0])
        raise MalformedPayloadError(
            "the number does not fit a 32-bit float", record=n_before + record, column=column
        )


def refuse_expansion(n_rows: int, n_columns: int) -> None:
    """Raises `MalformedPayloadError` if records, about to be unpacked, exceed `MAX_CELLS`."""
    # A few bytes can stand for millions of records: even an empty one costs a prediction.
    if n_rows * max(n_columns, _CELLS_OF_A_PREDICTION) > MAX_CELLS:
        raise MalformedPayloadError(
            f"the body unpacks to {n_rows} records of {n_columns} columns; the limit is "
            f"{MAX_CELLS} values, {MAX_CELLS // _CELLS_OF_A_PREDICTION} records; send fewer at once"
        )
