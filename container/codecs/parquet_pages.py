"""What the pages of a Parquet file unpack to, by their own headers.

The footer says so, too, and whoever wrote the file may have it say anything. The header of a page
is what the reader allocates by, and what its decompressor is held to.

Source: the Parquet format's `parquet.thrift` (PageHeader), in Thrift's compact protocol.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from container.errors import MalformedPayloadError

_UNPACKED_SIZE, _PACKED_SIZE = 2, 3  # fields of a PageHeader
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _STRUCT = (9, 10), 12
_MAX_DEPTH = 8
_MAX_VARINT_BYTES = 10
# Reading so many headers takes a second; 100 MB in pages of the usual size have a hundred.
_MAX_PAGES = 100_000


def unpacked_bytes(body: bytes, metadata: Any) -> int:
    """The sum over all pages of all columns.

    Args:
        body: The whole file.
        metadata: Its `pyarrow.parquet.FileMetaData`.
    Raises:
        MalformedPayloadError: where the footer says that pages are there is something else.
    """
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    # Or a footer could have the same pages read a thousand times.
    if sum(chunk.total_compressed_size for chunk in chunks) > len(body):
        raise MalformedPayloadError("the Parquet file is broken: its columns overlap")
    try:
        sizes = [
            *islice(chain.from_iterable(_pages(body, each) for each in chunks), _MAX_PAGES + 1)
        ]
    except (IndexError, ValueError) as error:
        raise MalformedPayloadError("the Parquet file is broken: a page has no header") from error
    if len(sizes) > _MAX_PAGES:
        raise MalformedPayloadError(f"the Parquet file has more than {_MAX_PAGES} pages")
    return sum(sizes)


def _pages(body: bytes, chunk: Any) -> Iterator[int]:
    """What each page of a column unpacks to."""
    starts = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
    position = min(start for start in starts if start > 0)
    end = position + chunk.total_compressed_size
    if not position <= end <= len(body):
        raise ValueError("the chunk goes beyond the file")
    while position < end:
        header = _Reader(body, position)
        sizes = header.integers_of_struct()
        yield max(0, sizes[_UNPACKED_SIZE])
        position = header.position + max(0, sizes[_PACKED_SIZE])


class _Reader:
    """Reads Thrift's compact protocol; runs into IndexError or ValueError where it is none."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def integers_of_struct(self) -> dict[int, int]:
        """Pass over a struct; the integers in it by the numbers of their fields."""
        found: dict[int, int] = {}
        number = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 15
            number = number + delta if delta else self._integer()
            if kind in _INTEGERS:
                found[number] = self._integer()
            else:
                self._skip(kind, _MAX_DEPTH)
        if not found.keys() >= {_UNPACKED_SIZE, _PACKED_SIZE}:
            raise ValueError("not a PageHeader")
        return found

    def _skip(self, kind: int, depth: int, *, is_element: bool = False) -> None:
        if not depth:
            raise ValueError("nested too deeply")
        if kind in _BOOLEANS:
            self.position += is_element  # a field's is in its header
        elif kind == _BYTE:
            self.position += 1
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self.position += 8
        elif kind == _BINARY:
            n_bytes = self._varint()
            self.position += n_bytes
        elif kind in _LISTS:
            self._skip_list(depth)
        elif kind == _STRUCT:
            while header := self._byte():
                if not header >> 4:
                    self._varint()
                self._skip(header & 15, depth - 1)
        else:
            raise ValueError("of no known type")

    def _skip_list(self, depth: int) -> None:
        header = self._byte()
        n_elements, kind = header >> 4, header & 15
        if n_elements == 15:
            n_elements = self._varint()
        if n_elements > len(self._data):
            raise ValueError("longer than the file")
        for _ in range(n_elements):
            self._skip(kind, depth - 1, is_element=True)

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for index in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value
        raise ValueError("a number without an end")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
