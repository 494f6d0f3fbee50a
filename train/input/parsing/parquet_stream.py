"""Parquet files from any stream.

A Parquet file is read from its end. A FIFO or a compressed file cannot be sought in, so it is
copied to a temporary file first. A FIFO carries the objects of a channel one after the other; only
the format itself tells where one ends.
"""

import struct
from collections.abc import Iterator
from typing import IO

from container.codecs import parquet_codec
from container.codecs.parquet_codec import ColumnIndices
from container.codecs.records import Batch, Columns
from train.input.scratch import Scratch
from train.input.sources import Stream

_MAGIC = b"PAR1"
_BORDER = 2 * _MAGIC
_FOOTER_LENGTH = struct.Struct("<I")
# The first magic number, the length of the footer and the last magic number.
_FRAME_BYTES = 2 * len(_MAGIC) + _FOOTER_LENGTH.size
# A footer names the columns and counts the rows.
_LEAST_FOOTER_BYTES = 16
_BLOCK_BYTES = 2**20


def batches(
    stream: Stream, columns: Columns, scratch: Scratch, places: ColumnIndices
) -> Iterator[Batch]:
    """Read the records of all Parquet files that the stream holds.

    Args:
        places: Gives the columns of each file their places in a record.
    Raises:
        MalformedPayloadError: as `parquet_codec.batches` does.
    """
    if stream.file is not None:
        yield from parquet_codec.batches(stream.file, columns, places)
        return
    with scratch.open_file() as file:
        for _ in _members(stream.raw, file):
            yield from parquet_codec.batches(file, columns, places)


def _members(stream: IO[bytes], file: IO[bytes]) -> Iterator[None]:
    """Fill `file` with one Parquet file of the stream after the other."""
    pending, size = b"", 0  # what comes next, and what the file has already

    def write(length: int) -> None:
        nonlocal pending, size
        _write_all(file, pending[:length])
        pending, size = pending[length:], size + length

    while block := stream.read(_BLOCK_BYTES):
        pending += block
        while (border := _border(pending, size)) is not None:
            write(border)
            file.seek(0)
            yield
            file.seek(0)
            file.truncate()
            size = 0
        # A border may lie across two blocks, and the length of the footer is just before it.
        write(max(0, len(pending) - len(_BORDER) - _FOOTER_LENGTH.size))
    write(len(pending))
    if size:
        file.seek(0)
        yield


def _border(data: bytes, n_before: int) -> int | None:
    """Return the offset in `data` at which one file ends and the next begins; None if none does.

    Args:
        n_before: Bytes of the first file that precede `data`.
    """
    at = data.find(_BORDER)
    while at >= 0:
        end = at + len(_MAGIC)
        if at >= _FOOTER_LENGTH.size:
            (footer,) = _FOOTER_LENGTH.unpack_from(data, at - _FOOTER_LENGTH.size)
            # Else those bytes are data like any other.
            if _LEAST_FOOTER_BYTES <= footer <= n_before + end - _FRAME_BYTES:
                return end
        at = data.find(_BORDER, at + 1)
    return None


def _write_all(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
