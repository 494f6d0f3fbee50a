"""`application/x-parquet`: tables of numbers; a null is a missing value.

Columns are matched by name with those of a model, or of the other files of a training job
(`column_names`). If one side has no names, columns are taken in the order of the file, a label
first. They hold integers, floats, decimals, booleans (1 and 0), or nothing but nulls. The index of
a pandas frame, which pandas writes as further columns, is left out.

Run-length coding can make a decompression bomb of a kilobyte: the announced number of values is
limited, and servers decode in a process of limited memory.

Needs pyarrow, which is imported at the first use (150 ms, 35 MB) and is not in the slim image.
"""

import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from container import content_types
from container.codecs import column_names, diagnosis
from container.codecs.records import (
    Batch,
    Columns,
    DenseRows,
    Floats,
    check_unpacked_size,
    check_width,
    dense_batch,
)
from container.errors import MalformedPayloadError, counted

LIBRARY = "pyarrow"

_PART_CELLS = 2**20
# pandas' name of an index without a name. A tool that rewrites the file keeps only this name.
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
_ACCEPTED = "integers, floats, decimals, booleans, or nothing but nulls"
_MAX_FAULTS = 3  # columns in a message
_MAX_CHARACTERS = 60  # of a type in a message: that of nested columns has no end

ColumnIndices = Callable[[Sequence[str]], Sequence[int]]
"""Given the names of a file's columns, returns the index of each wanted column, from 0."""


def is_available() -> bool:
    """Return True if pyarrow is installed."""
    return importlib.util.find_spec(LIBRARY) is not None


def decode(body: bytes, columns: Columns) -> Batch:
    """Read all records, in a process that may crash and whose memory is limited.

    The reader of pyarrow crashes on some broken files, and its pages may unpack to far more than
    the file and its footer say: servers call this in a process of its own
    (`serve.runtime.decoder`).

    Raises:
        MalformedPayloadError: the body is not a Parquet file, is encrypted, has a column that does
            not hold numbers, lacks a column of the model, or has more than `MAX_CELLS` values.
        MemoryError: its pages unpack to more than the memory granted.
    """
    try:
        return _decode(body, columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.PARQUET) from None


def _decode(body: bytes, columns: Columns) -> Batch:
    import pyarrow as pa  # type: ignore[import-untyped]

    with _arrow_errors():
        file, names = _open(pa.BufferReader(body))
        order = column_names.for_model(names, columns)
        n_rows, n_columns = file.metadata.num_rows, len(names)
        check_width(n_columns, columns)
        if not n_rows:
            raise MalformedPayloadError("there are no records")
        # Before anything is unpacked: runs of equal values make millions of records of a kilobyte.
        check_unpacked_size(n_rows, n_columns)
        rows = DenseRows(n_rows, n_columns, columns)
        for part in _parts(file, names, order or range(n_columns)):
            n_rows -= len(part)
            if n_rows < 0:  # more records than the footer announces
                break
            rows.add(part)
    if n_rows:
        raise MalformedPayloadError(
            "the Parquet file holds another number of records than its footer announces; write it "
            "again"
        )
    return rows.batch()


def batches(source: Path | IO[bytes], columns: Columns, indices: ColumnIndices) -> Iterator[Batch]:
    """Read a file of any size, about a million values at a time.

    Args:
        indices: Called with the names of the file's columns before the first record is read.
    Raises:
        MalformedPayloadError: as in `decode`, or raised by `indices`.
    """
    with _arrow_errors():
        file, names = _open(source)
        order = indices(names)
        columns = columns.located([names[index] for index in order])
        for part in _parts(file, names, order):
            yield dense_batch(part, columns)


@contextmanager
def _arrow_errors() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedPayloadError(
            "the Parquet file cannot be read: it is damaged, encrypted, or not a Parquet file; "
            "write it again without encryption"
        ) from error


def _open(source: Any) -> tuple[Any, list[str]]:
    """Return the file, and the names of its columns without an index; names may repeat."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    file = pq.ParquetFile(source, pre_buffer=False)  # which would read ahead in other threads
    _check_row_groups(file.metadata)
    schema = file.schema_arrow
    index = _index_of_pandas(schema)
    fields = [field for field in schema if field.name not in index]
    _check_types(fields)
    if index and not fields:
        raise MalformedPayloadError(
            "the Parquet file has no column besides the index of a pandas frame; write the feature "
            "columns, too"
        )
    return file, [field.name for field in fields]


def _check_types(fields: Sequence[Any]) -> None:
    """Raise `MalformedPayloadError`, naming the columns whose type is not numeric."""
    from pyarrow import types

    faults = [
        f"column {column_names.shown(field.name)} is {str(field.type)[:_MAX_CHARACTERS]}"
        for field in fields
        if not (
            types.is_integer(field.type)
            or types.is_floating(field.type)
            or types.is_decimal(field.type)
            or types.is_boolean(field.type)
            or types.is_null(field.type)
        )
    ]
    if faults:
        more = len(faults) - _MAX_FAULTS
        listed = ", ".join(faults[:_MAX_FAULTS]) + (f" and {more} more" if more > 0 else "")
        raise MalformedPayloadError(
            f"{listed}; accepted: {_ACCEPTED}; convert it to numbers, or leave it out"
        )


def _check_row_groups(metadata: Any) -> None:
    for number in range(metadata.num_row_groups):
        n_columns = metadata.row_group(number).num_columns
        if n_columns != metadata.num_columns:
            raise MalformedPayloadError(
                f"the Parquet file is damaged: row group {number + 1} has "
                f"{counted(n_columns, 'column')} and the schema has {metadata.num_columns}; "
                "write the file again"
            )


def _index_of_pandas(schema: Any) -> set[str]:
    """Return the names of the columns that pandas lists as its index, or names as one.

    Source: pandas developer documentation, "Storing pandas DataFrame objects in Apache Parquet".
    """
    unnamed = {name for name in schema.names if _UNNAMED_INDEX.fullmatch(name)}
    try:
        listed = (schema.pandas_metadata or {}).get("index_columns", [])
        # A range is described by an object, and no column.
        return unnamed | {name for name in listed if isinstance(name, str)}
    except (ValueError, RecursionError, AttributeError, TypeError):  # not written by pandas
        return unnamed


def _parts(file: Any, names: Sequence[str], order: Sequence[int]) -> Iterator[Floats]:
    """Yield the records, float32 `[n_rows, n_columns]`, up to `_PART_CELLS` values at a time.

    Args:
        names: Names of the columns to read, in the order of the file.
        order: Index in `names` of the first column of a record, of the second, and so on.
    """
    import pyarrow as pa

    n_before = 0
    part_rows = max(1, _PART_CELLS // max(1, len(names)))
    # The index is not even unpacked: it may be text.
    read = None if len(names) == file.metadata.num_columns else list(dict.fromkeys(names))
    for part in file.iter_batches(part_rows, columns=read, use_threads=False):
        if part.num_columns != len(names):
            raise ValueError("a row group lacks columns of the schema")
        rows = np.empty((part.num_rows, len(order)), dtype=np.float32)
        for column, index in enumerate(order):
            # Unsafe only in that integers above 2**24 are rounded, as in every format.
            numbers = part.column(index).cast(pa.float32(), safe=False)
            rows[:, column] = numbers.to_numpy(zero_copy_only=False)  # nulls become NaN
        _check_finite(rows, [names[index] for index in order], n_before)
        n_before += len(rows)
        yield rows


def _check_finite(rows: Floats, names: Sequence[str], n_before: int) -> None:
    """Raise `MalformedPayloadError` with the record and the column name of the first infinity."""
    infinite = np.isinf(rows)
    if infinite.any():
        record, column = (int(index) for index in np.argwhere(infinite)[0])
        raise MalformedPayloadError(
            f"column {column_names.shown(names[column])}: the number does not fit a 32-bit float",
            record=n_before + record + 1,
        )
