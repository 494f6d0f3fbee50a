"""`application/x-parquet`: tables of numbers; a null is a missing value.

Columns are taken in the order of the file, a label first; their names do not matter, unless several
files are read as one (`ColumnOrder`). They hold integers, floats, decimals, booleans (1 and 0), or
nothing but nulls. The index of a pandas frame, which pandas writes as columns more and names in the
file's metadata, is no part of the records.

Needs pyarrow, which is imported at the first use (150 ms, 35 MB) and is not in the slim image.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from container.codecs.base import (
    Batch,
    Columns,
    DenseRows,
    Floats,
    dense_batch,
    refuse_expansion,
    refuse_infinity,
    refuse_width,
)
from container.errors import MalformedPayloadError

LIBRARY = "pyarrow"

_PART_CELLS = 2**20
_SHOWN = 200  # characters of the names of columns


def is_available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec(LIBRARY) is not None


def decode(body: bytes, columns: Columns) -> Batch:
    """Read all records, in a process that may crash and whose memory is limited.

    The reader of pyarrow crashes on some broken files, and its pages may unpack to far more than
    the file and its footer say: servers call this in a process of its own (`serve.decoder`).

    Raises:
        MalformedPayloadError: it is no Parquet file, is encrypted, has a column of something else
            than numbers, or has more than `MAX_CELLS` values.
        MemoryError: its pages unpack to more than there is memory for.
    """
    import pyarrow as pa  # type: ignore[import-untyped]

    with _arrow_errors():
        file, names = _open(pa.BufferReader(body), columns)
        n_rows, n_columns = file.metadata.num_rows, len(names)
        if not n_rows:
            raise MalformedPayloadError("there are no records")
        # Runs of equal values make millions of records out of a kilobyte.
        refuse_expansion(n_rows, n_columns)
        rows = DenseRows(n_rows, n_columns, columns)
        for part in _parts(file, names):
            n_rows -= len(part)
            if n_rows < 0:  # what a file says of itself need not be true
                break
            rows.add(part)
    if n_rows:
        raise MalformedPayloadError("the Parquet file has not as many records as it announces")
    return rows.batch()


class ColumnOrder:
    """The columns of the first of several files, which those of all others are put in order by."""

    def __init__(self) -> None:
        self._names: list[str] | None = None

    def sources(self, names: list[str]) -> list[int] | None:
        """Which of a file's columns is the first one, the second and so on; None as they are.

        Files of another width are for others to judge.

        Raises:
            MalformedPayloadError: they are called other than those of the first file.
        """
        if self._names is None:
            self._names = list(names)
        first = self._names
        if names == first or len(names) != len(first):
            return None
        if sorted(names) != sorted(first) or len(set(names)) < len(names):
            raise MalformedPayloadError(
                f"the columns are {_listed(names)} where the first Parquet file of the job has "
                f"{_listed(first)}; give all files columns of the same names"
            )
        return [names.index(name) for name in first]


def _listed(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def batches(source: Path | IO[bytes], columns: Columns, order: ColumnOrder) -> Iterator[Batch]:
    """Read a file of any size, about a million values at a time.

    Args:
        order: Where the records of several files belong together, the same for all of them.
    Raises:
        MalformedPayloadError: as `decode` does, or the names are not those of an earlier file.
    """
    with _arrow_errors():
        file, names = _open(source, columns)
        sources = order.sources(names)
        for part in _parts(file, names):
            yield dense_batch(part if sources is None else part[:, sources], columns)


@contextmanager
def _arrow_errors() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedPayloadError(
            "the Parquet file cannot be read: it is something else, broken, or encrypted"
        ) from error


def _open(source: Any, columns: Columns) -> tuple[Any, list[str]]:
    """The file, and the names of the columns that are records'; names may occur twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    file = pq.ParquetFile(source, pre_buffer=False)  # which would read ahead in other threads
    _check_row_groups(file.metadata)
    schema = file.schema_arrow
    index = _index_of_pandas(schema)
    for number, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True), start=1):
        if name not in index and not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        ):
            raise MalformedPayloadError(f"column {number} holds something else than numbers")
    names = [name for name in schema.names if name not in index]
    if index and not names:
        raise MalformedPayloadError("the Parquet file has no column but the index of a table")
    refuse_width(len(names), columns)
    return file, names


def _check_row_groups(metadata: Any) -> None:
    for number in range(metadata.num_row_groups):
        n_columns = metadata.row_group(number).num_columns
        if n_columns != metadata.num_columns:
            raise MalformedPayloadError(
                f"the Parquet file is broken: row group {number + 1} has {n_columns} columns and "
                f"the schema has {metadata.num_columns}; write the file again"
            )


def _index_of_pandas(schema: Any) -> set[str]:
    """The names of the columns that pandas lists as its index.

    Source: pandas developer documentation, "Storing pandas DataFrame objects in Apache Parquet".
    """
    try:
        listed = (schema.pandas_metadata or {}).get("index_columns", [])
        # A range is described by an object, and no column.
        return {name for name in listed if isinstance(name, str)}
    except (ValueError, RecursionError, AttributeError, TypeError):  # whoever wrote it, not pandas
        return set()


def _parts(file: Any, names: list[str]) -> Iterator[Floats]:
    """The records, float32 `[n_rows, n_columns]`, up to `_PART_CELLS` values at a time."""
    import pyarrow as pa

    n_before = 0
    part_rows = max(1, _PART_CELLS // max(1, len(names)))
    # The index is not even unpacked: it may be text.
    read = None if len(names) == file.metadata.num_columns else list(dict.fromkeys(names))
    for part in file.iter_batches(part_rows, columns=read, use_threads=False):
        rows = np.empty((part.num_rows, part.num_columns), dtype=np.float32)
        for index, column in enumerate(part.columns):
            # Unsafe only in that integers above 2**24 are rounded, as in every format.
            numbers = column.cast(pa.float32(), safe=False)
            rows[:, index] = numbers.to_numpy(zero_copy_only=False)  # nulls become NaN
        refuse_infinity(rows, n_before=n_before)
        n_before += len(rows)
        yield rows
