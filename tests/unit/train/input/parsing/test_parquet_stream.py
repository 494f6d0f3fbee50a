"""Parquet files out of streams that cannot be sought in."""

import io
from pathlib import Path

import numpy as np
import pytest

from container.codecs.records import Columns
from tests.unit.train.conftest import as_parquet
from train.distributed.cluster import OneHost
from train.input.column_order import ColumnOrder
from train.input.parsing import parquet_stream
from train.input.scratch import Scratch
from train.input.sources import Stream


class _Bytes:
    """A source that is no file."""

    name = "FIFO 'train_0'"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def open(self) -> io.BytesIO:
        return io.BytesIO(self._content)


def _read(content: bytes, tmp_path: Path) -> list[list[float]]:
    stream = Stream(_Bytes(content))
    rows: list[list[float]] = []
    order = ColumnOrder(OneHost("algo-1"))
    order.agree(("a", "b"))
    for batch in parquet_stream.batches(
        stream, Columns(label_size=0), Scratch(tmp_path), order.places
    ):
        rows += np.asarray(batch.features).tolist()
    stream.close()
    return rows


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 100, 3000, 2**20])
def test_consecutive_files_are_separated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    """A FIFO carries all objects of a channel; a border may lie anywhere in a block (C-019)."""
    monkeypatch.setattr(parquet_stream, "_BLOCK_BYTES", block_bytes)
    parts = [np.full((n_rows, 2), n_rows, dtype=np.float32) for n_rows in (3, 1, 250)]

    assert _read(b"".join(map(as_parquet, parts)), tmp_path) == np.concatenate(parts).tolist()


def test_border_within_the_data_is_no_border(tmp_path: Path) -> None:
    """The eight bytes of a border may be numbers: the length of a footer must stand before them."""
    number = int.from_bytes(b"PAR1PAR1", "little")
    file = io.BytesIO()
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": [1, number, 2], "b": [1.0, 2.0, 3.0]})
    pq.write_table(table, file, compression="none", use_dictionary=False, write_statistics=False)
    assert b"PAR1PAR1" in file.getvalue()[8:-8]

    rows = _read(file.getvalue() * 2, tmp_path)

    assert rows == [[1, 1], [np.float32(number), 2], [2, 3]] * 2


def test_index_of_a_pandas_frame_is_no_feature(tmp_path: Path) -> None:
    """It would be one that no request has; pandas says in the file which columns it is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0], "__index_level_0__": ["x", "y"]})
    about = {b"pandas": b'{"index_columns": ["__index_level_0__"]}'}
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), file)

    assert _read(file.getvalue(), tmp_path) == [[1, 3], [2, 4]]
