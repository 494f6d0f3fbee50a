"""The headers of Parquet pages, whatever they were written with."""

import contextlib
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from container.codecs import parquet_codec, parquet_pages
from container.codecs.base import Columns
from container.errors import MalformedPayloadError


def _file(n_rows: int = 5000, **options: Any) -> tuple[bytes, Any]:
    random = np.random.default_rng(7)
    table = pa.table(
        {
            "float": random.normal(size=n_rows).round(2),
            "integer": random.integers(0, 5, n_rows),
            "boolean": random.random(n_rows) > 0.5,
            "gaps": pa.array([None if x < 0.3 else x for x in random.random(n_rows)]),
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue(), pq.ParquetFile(stream).metadata


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "none", "use_dictionary": False},
        {"compression": "gzip", "row_group_size": 700},
        {"data_page_size": 1000, "write_page_index": True},
        {"write_page_checksum": True, "write_statistics": False},
    ],
)
def test_pages_unpack_to_what_an_honest_footer_says(options: dict[str, Any]) -> None:
    """Less the headers of the pages themselves, which the footer counts, too."""
    body, metadata = _file(**options)

    said = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))

    assert 0.95 * said < parquet_pages.unpacked_bytes(body, metadata) <= said


def test_row_group_without_rows_has_nothing_to_unpack() -> None:
    """Some writers end a file with one."""
    stream = io.BytesIO()
    table = pa.table({"a": [1.0, 2.0]})
    with pq.ParquetWriter(stream, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)

    assert parquet_codec.decode(stream.getvalue(), Columns()).n_rows == 2


def test_damaged_headers_are_an_error_and_nothing_else() -> None:
    """Each byte of a small file in turn."""
    body, metadata = _file(3, use_dictionary=False)
    position = metadata.row_group(0).column(0).data_page_offset
    for index in range(position, position + 200):
        for value in (0, 0x0C, 0x19, 0x7F, 0xF8, 0xFF):
            damaged = body[:index] + bytes([value]) + body[index + 1 :]
            with contextlib.suppress(MalformedPayloadError):
                assert parquet_pages.unpacked_bytes(damaged, metadata) >= 0


def _chunks(*sizes: int) -> Any:
    """The metadata of one row group, whose columns all begin at the same place."""
    columns = [
        SimpleNamespace(data_page_offset=4, dictionary_page_offset=None, total_compressed_size=size)
        for size in sizes
    ]
    group = SimpleNamespace(column=lambda index: columns[index])
    return SimpleNamespace(
        num_row_groups=1, num_columns=len(columns), row_group=lambda index: group
    )


@pytest.mark.parametrize("sizes", [(60, 60), (60, -60), (-1,)])
def test_pages_are_read_once_only(sizes: tuple[int, ...]) -> None:
    """A footer of some kilobytes could have megabytes read thousands of times."""
    page = bytes([0x15, 0, 0x15, 0, 0x15, 0, 0])  # type, and twice no bytes
    body = b"PAR1" + 14 * page
    assert parquet_pages.unpacked_bytes(body, _chunks(49, 49)) == 0

    with pytest.raises(MalformedPayloadError, match="broken"):
        parquet_pages.unpacked_bytes(body, _chunks(*sizes))


def test_pages_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven bytes are a page."""
    monkeypatch.setattr(parquet_pages, "_MAX_PAGES", 14)
    page = bytes([0x15, 0, 0x15, 0, 0x15, 0, 0])
    assert parquet_pages.unpacked_bytes(b"PAR1" + 14 * page, _chunks(98)) == 0

    with pytest.raises(MalformedPayloadError, match="more than 14 pages"):
        parquet_pages.unpacked_bytes(b"PAR1" + 15 * page, _chunks(105))


def test_chunk_beyond_the_file_is_an_error() -> None:
    """The footer of a longer file."""
    _, metadata = _file(5000)
    body, _ = _file(3)

    with pytest.raises(MalformedPayloadError, match="broken"):
        parquet_pages.unpacked_bytes(body, metadata)
