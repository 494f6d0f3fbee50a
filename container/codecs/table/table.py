"""Tables as algorithms see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs.records import FLOAT32_OVERFLOW, Floats
from container.errors import MalformedPayloadError
from container.schema import Kind, Schema


@dataclass(frozen=True, slots=True)
class Table:
    """Records, column by column.

    A column of numbers is float64 `[n_rows]` with NaN for a missing cell, one of text an array of
    objects `[n_rows]`: strings, and None for a missing cell.
    """

    columns: tuple[NDArray[Any], ...]
    names: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of records and of columns."""
        return (len(self.columns[0]) if self.columns else 0), len(self.columns)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each column."""
        return tuple("text" if column.dtype == object else "number" for column in self.columns)

    @property
    def schema(self) -> Schema:
        """Kinds and names of the columns."""
        return Schema.of(self.kinds, self.names)

    def column(self, key: int | str) -> NDArray[Any]:
        """Return a column by its index, from 0, or by its name; raises `KeyError`."""
        if isinstance(key, int):
            return self.columns[key]
        if self.names is None or key not in self.names:
            raise KeyError(key)
        return self.columns[self.names.index(key)]

    def rows(self, start: int, stop: int) -> "Table":
        """Return the records from `start` up to and without `stop`."""
        return Table(tuple(column[start:stop] for column in self.columns), self.names)

    def first_missing(self) -> tuple[int, int] | None:
        """Return record and column of the first missing cell, from 0; None if there is none."""
        first: tuple[int, int] | None = None
        for index, column in enumerate(self.columns):
            is_missing = (
                [cell is None for cell in column] if column.dtype == object else np.isnan(column)
            )
            if np.any(is_missing):
                place = (int(np.argmax(is_missing)), index)
                first = place if first is None else min(first, place)
        return first

    def matrix(self) -> Floats:
        """Return the numbers as float32 `[n_rows, n_columns]`, NaN where missing.

        Raises:
            MalformedPayloadError: a column is text, or a number does not fit a 32-bit float.
        """
        for index, kind in enumerate(self.kinds):
            if kind == "text":
                raise MalformedPayloadError(
                    f"{described(self.names, index)} is text, and only numbers are accepted here"
                )
        matrix = np.column_stack(self.columns)
        too_large = np.abs(matrix) >= FLOAT32_OVERFLOW  # False for NaN
        if too_large.any():
            record, column = (int(index) for index in np.argwhere(too_large)[0])
            raise MalformedPayloadError(
                f"{described(self.names, column)}: the number does not fit a 32-bit float",
                record=record + 1,
            )
        return np.ascontiguousarray(matrix, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Examples:
    """Records of a training job with their labels: float64 or objects (text) `[n_rows]`."""

    records: Table
    labels: NDArray[Any] | None = None


def described(names: Sequence[str] | None, index: int) -> str:
    """Name a column in a message: `column 3 ('city')`."""
    return f"column {index + 1}" + (f" ({names[index]!r})" if names is not None else "")
