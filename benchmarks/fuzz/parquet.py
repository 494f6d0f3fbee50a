"""Mutations of Parquet that a reader gets as far as: its footer and page headers, field by field.

Source: the Parquet format's `parquet.thrift`.
"""

import copy
import struct
from random import Random

from benchmarks.fuzz import thrift

_TAIL = struct.Struct("<I4s")
_MAGIC = b"PAR1"
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3  # of FileMetaData, RowGroup, ColumnChunk
_DATA_PAGE_OFFSET = 9  # of ColumnMetaData
_EXTREMES = (
    *(-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 127, 128, 1000),
    *(2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1),
)
_PAGE_SHARE = 0.3
_MOST_CHANGES = 3


def mutate(data: bytes, random: Random) -> bytes:
    """Change fields of the footer, or of the header of a page.

    Raises:
        ValueError, IndexError, KeyError: it is no Parquet file.
    """
    length, magic = _TAIL.unpack(data[-_TAIL.size :])
    start = len(data) - _TAIL.size - length
    if magic != _MAGIC or start < 0:
        raise ValueError("no Parquet file")
    footer, _ = thrift.read_struct(data[start:])
    pages = data[:start]
    if random.random() < _PAGE_SHARE:
        pages = _change_page(pages, footer, random)
    else:
        for _ in range(random.randint(1, _MOST_CHANGES)):
            change(footer, random)
    return with_footer(pages, footer)


def with_footer(pages: bytes, footer: thrift.Struct) -> bytes:
    """Write a file of pages and a footer."""
    written = thrift.write_struct(footer)
    return pages + written + _TAIL.pack(len(written), _MAGIC)


def change(tree: thrift.Struct, random: Random) -> None:
    """Change one field in a tree: its value, kind or number, or whether it is there."""
    fields = random.choice([each for each in thrift.structs(tree) if each])
    field = random.choice(fields)
    roll = random.random()
    if roll < 0.1:
        fields.remove(field)
    elif roll < 0.15:
        fields.insert(random.randrange(len(fields) + 1), copy.deepcopy(field))
    elif roll < 0.2:
        field.number = random.randint(1, 20)
    elif isinstance(field.value, thrift.List):
        _change_list(field.value, random)
    elif isinstance(field.value, bytes):
        field.value = random.choice((b"", field.value[:-1], field.value * 3, random.randbytes(8)))
    elif field.kind in (thrift.TRUE, thrift.FALSE):
        field.kind = thrift.TRUE + thrift.FALSE - field.kind
    elif isinstance(field.value, int):
        delta = random.choice((-8, -1, 1, 8))
        field.value = random.choice((*_EXTREMES, field.value + delta, field.value * 2))


def _change_list(found: thrift.List, random: Random) -> None:
    values = found.values
    if not values:
        return
    index = random.randrange(len(values))
    roll = random.random()
    if roll < 0.3:
        del values[index]
    elif roll < 0.6:
        values.insert(random.randrange(len(values) + 1), copy.deepcopy(values[index]))
    elif roll < 0.8:
        random.shuffle(values)
    elif isinstance(values[index], int):
        values[index] = random.choice(_EXTREMES)
    elif isinstance(values[index], bytes):
        values[index] = values[index] * 2


def _change_page(pages: bytes, footer: thrift.Struct, random: Random) -> bytes:
    group = random.choice(thrift.find(footer, _ROW_GROUPS).values)
    column = random.choice(thrift.find(group, _COLUMNS).values)
    offset = thrift.find(thrift.find(column, _META_DATA), _DATA_PAGE_OFFSET)
    header, end = thrift.read_struct(pages, offset)
    change(header, random)
    return pages[:offset] + thrift.write_struct(header) + pages[end:]
