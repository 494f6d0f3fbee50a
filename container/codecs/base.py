"""What every codec speaks: batches of records in, predictions out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import MalformedPayloadError

Floats = NDArray[np.float32]

# What a compressed body may unpack to: 128 MiB of float32, about what the largest body of batch
# transform (100 MB) holds as text.
MAX_CELLS = 2**25
MAX_UNPACKED_BYTES = 8 * MAX_CELLS
_CELLS_OF_A_PREDICTION = 16
# XGBoost and scipy count columns in 32 bits.
MAX_COLUMNS = 2**31 - 1
# The smallest number that is rounded to infinity: half a step above the largest finite one.
FLOAT32_OVERFLOW = float(2**128 - 2**103)


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
    """

    features: Floats | SparseRows
    labels: Floats | None = None
    weights: Floats | None = None

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
    `feature_names` are known, formats whose columns have names match them by name.
    """

    label_size: int = 0
    has_weight: bool = False
    n_features: int | None = None
    libsvm_base: int | None = 0
    feature_names: tuple[str, ...] | None = None  # in the order of the features

    @property
    def n_leading(self) -> int:
        return self.label_size + self.has_weight

    @property
    def width(self) -> int | None:
        """How many columns a dense record must have, or None if any number will do."""
        return None if self.n_features is None else self.n_features + self.n_leading

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
    """The outputs of `SAGEMAKER_INFERENCE_OUTPUT` for every record (CONTRACT 7.4).

    `columns` has float32 or integers for every one of `keys`: `[n_rows]`, or `[n_rows, k]` for a
    key whose value is a list; NaN where a key has no value.
    """

    keys: tuple[str, ...]  # in the order in which they were asked for
    columns: dict[str, NDArray[Any]]

    @property
    def n_rows(self) -> int:
        return len(self.columns[self.keys[0]])


def dense_batch(rows: Floats, columns: Columns) -> Batch:
    """Split label and weight off the features of `rows`, float32 `[n_rows, n_columns]`.

    Raises:
        MalformedPayloadError: no feature column is left.
    """
    _refuse_no_features(rows.shape[1], columns)
    return Batch(
        features=np.ascontiguousarray(rows[:, columns.n_leading :]),
        labels=rows[:, 0].copy() if columns.label_size else None,
        weights=rows[:, columns.label_size].copy() if columns.has_weight else None,
    )


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
        self._features = np.empty((n_rows, width - columns.n_leading), dtype=np.float32)
        self._labels = np.empty(n_rows if columns.label_size else 0, dtype=np.float32)
        self._weights = np.empty(n_rows if columns.has_weight else 0, dtype=np.float32)

    def add(self, rows: Floats) -> None:
        """Add records, `[n, width]`."""
        place = slice(self._n_rows, self._n_rows + len(rows))
        self._n_rows = place.stop
        self._features[place] = rows[:, self._columns.n_leading :]
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
    if width <= columns.n_leading:
        raise MalformedPayloadError(
            f"the records have {width} columns, of which {columns.n_leading} are label and "
            "weight: no features are left"
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
