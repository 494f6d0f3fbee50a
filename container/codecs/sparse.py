"""Sparse records, given cell by cell in any order, put into compressed rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs.base import MAX_COLUMNS, Floats, SparseRows
from container.errors import MalformedPayloadError


class SparseRecords:
    """Collects records of keys (column numbers from 0) and their values."""

    def __init__(self) -> None:
        self._lengths: list[int] = []
        self._keys: list[NDArray[Any]] = []
        self._values: list[Floats] = []
        self._width = 0  # as the records declare it; 0 while none does
        self._widest = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, keys: NDArray[Any], values: Floats, width: int | None) -> None:
        """Add a record.

        Args:
            keys: Numbers, `[n]`.
            values: Float32 `[n]`.
            width: How many columns the record declares; without it, as many as there are keys for.
        Raises:
            ValueError: saying what is wrong with this record, without its number.
        """
        if len(keys) != len(values):
            raise ValueError(f"there are {len(keys)} keys and {len(values)} values")
        if width is not None:
            if not 0 < width <= MAX_COLUMNS:
                raise ValueError(f"the shape must be between 1 and {MAX_COLUMNS}")
            self._width = self._width or width
            if width != self._width:
                raise ValueError(f"the shape is {width} where the first is {self._width}")
        limit = width or MAX_COLUMNS
        if len(keys) and not (keys.min() >= 0 and keys.max() < limit):
            raise ValueError(f"a key is not between 0 and {limit - 1}")
        self._widest = max(self._widest, int(keys.max()) + 1 if len(keys) else 0)
        self._lengths.append(len(keys))
        self._keys.append(keys.astype(np.int64))
        self._values.append(values)

    def rows(self) -> SparseRows:
        """All records.

        Raises:
            MalformedPayloadError: with the number of the record that has a column twice, or a
                value that is infinite.
        """
        return compress(
            np.repeat(np.arange(len(self._lengths)), self._lengths),
            np.concatenate(self._keys),
            np.concatenate(self._values),
            (len(self._lengths), self._width or self._widest),
        )


def compress(
    records: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: Floats,
    shape: tuple[int, int],
) -> SparseRows:
    """Put cells, each with its record and its column counted from 0, into rows.

    Raises:
        MalformedPayloadError: with the number of the record that has a cell outside of the shape,
            a column twice, or a value that is infinite.
    """
    n_rows, n_columns = shape
    if len(records) and not (records.min() >= 0 and records.max() < n_rows):
        raise MalformedPayloadError(f"a cell lies outside of the {n_rows} records")
    _refuse((keys < 0) | (keys >= n_columns), records, f"a column is not in 0 to {n_columns - 1}")
    _refuse(np.isinf(values), records, "a number does not fit a 32-bit float")
    order = np.lexsort((keys, records))
    records, keys, values = records[order], keys[order], values[order]
    is_repeated = (np.diff(keys) == 0) & (np.diff(records) == 0)
    _refuse(is_repeated, records[1:], "a column is given twice")
    offsets = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(records, minlength=n_rows), out=offsets[1:])
    return SparseRows(offsets, keys.astype(np.int32), values, n_columns)


def _refuse(faults: NDArray[np.bool_], records: NDArray[np.int64], problem: str) -> None:
    if faults.any():
        raise MalformedPayloadError(f"record {int(records[faults.argmax()]) + 1}: {problem}")
