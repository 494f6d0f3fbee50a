"""Compression of sparse records, given cell by cell in any order, into rows."""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs.records import MAX_COLUMNS, Columns, Floats, SparseRows
from container.errors import MalformedPayloadError, counted

Locate = Callable[[int, str], MalformedPayloadError]
"""Maker of an error from a record's index and a problem."""


def by_number(record: int, problem: str) -> MalformedPayloadError:
    """Return an error that counts records from 1."""
    return MalformedPayloadError(problem, record=record + 1)


class SparseRecords:
    """Collector of records given as keys (column numbers from 0) and values."""

    def __init__(self, columns: Columns) -> None:
        """Accept the keys of the features that `columns` expects, or any without an expectation."""
        limit = MAX_COLUMNS if columns.n_features is None else columns.n_features
        self._limit = limit
        self._lengths = array("q")
        # Growing memory of arrays: no copy when they are complete.
        self._keys = bytearray()
        self._values = bytearray()
        self._width = 0  # as the records declare it; 0 until one does
        self._widest = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, keys: NDArray[Any], values: Floats, width: int | None) -> None:
        """Add a record.

        Args:
            keys: Column numbers, `[n]`.
            values: Float32 `[n]`.
            width: Declared number of columns; None to take it from the largest key.
        Raises:
            ValueError: the record is at fault; the message does not have its number.
        """
        if len(keys) != len(values):
            raise ValueError(
                f"the record has {counted(len(keys), 'key')} and {counted(len(values), 'value')}"
            )
        if width is not None:
            if not 0 < width <= self._limit:
                raise ValueError(f"the shape is {width}, not in 1 to {self._limit}")
            self._width = self._width or width
            if width != self._width:
                raise ValueError(f"the shape is {width} where the first is {self._width}")
        limit = width or self._limit
        if len(keys) and not (keys.min() >= 0 and keys.max() < limit):
            raise ValueError(f"a key is not in 0 to {limit - 1}")
        self._widest = max(self._widest, int(keys.max()) + 1 if len(keys) else 0)
        self._lengths.append(len(keys))
        self._keys += keys.astype(np.int32).data
        self._values += np.ascontiguousarray(values).data

    def rows(self, locate: Locate = by_number) -> SparseRows:
        """Return all records.

        Raises:
            MalformedPayloadError: made by `locate`, for a record with a column twice or an infinite
                value.
        """
        return compress(
            np.repeat(np.arange(len(self._lengths), dtype=np.int32), self._lengths),
            np.frombuffer(self._keys, dtype=np.int32),
            np.frombuffer(self._values, dtype=np.float32),
            (len(self._lengths), self._width or self._widest),
            locate,
        )


def compress(
    records: NDArray[np.int32],
    keys: NDArray[np.int32],
    values: Floats,
    shape: tuple[int, int],
    locate: Locate = by_number,
) -> SparseRows:
    """Put cells, each with the index of its record and of its column, into rows.

    Raises:
        MalformedPayloadError: made by `locate`, for a record with a cell outside the shape, a
            column twice, or an infinite value.
    """

    def refuse(faults: NDArray[np.bool_], records: NDArray[np.int32], problem: str) -> None:
        if faults.any():
            raise locate(int(records[faults.argmax()]), problem)

    n_rows, n_columns = shape
    if len(records) and not (records.min() >= 0 and records.max() < n_rows):
        raise MalformedPayloadError(f"a cell is outside the {counted(n_rows, 'record')}")
    refuse((keys < 0) | (keys >= n_columns), records, f"a column is not in 0 to {n_columns - 1}")
    refuse(np.isinf(values), records, "a number does not fit a 32-bit float")
    if not _is_sorted(records, keys):
        order = np.lexsort((keys, records))
        records, keys, values = records[order], keys[order], values[order]
        is_repeated = (keys[1:] == keys[:-1]) & (records[1:] == records[:-1])
        refuse(is_repeated, records[1:], "a column is given twice")
    offsets = np.searchsorted(records, np.arange(n_rows + 1, dtype=np.int32))
    return SparseRows(offsets, keys, values, n_columns)


def _is_sorted(records: NDArray[np.int32], keys: NDArray[np.int32]) -> bool:
    """Return True if the cells are in row order already, each column once."""
    is_next = records[1:] > records[:-1]
    is_next |= (records[1:] == records[:-1]) & (keys[1:] > keys[:-1])
    return bool(is_next.all())
