"""Thrift's compact protocol, read into a tree that can be changed and written again.

Source: Apache Thrift, "Thrift Compact protocol encoding", which the Parquet format uses for its
footer and page headers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)
INTEGERS = (I16, I32, I64)
_LONG_LIST = 15
_DOUBLE_BYTES = 8


@dataclass(slots=True)
class Field:
    """A field of a struct; ``value`` is an int, bytes, a ``List`` or a list of fields."""

    number: int
    kind: int
    value: Any


@dataclass(slots=True)
class List:
    """A list or a set of values of one kind."""

    kind: int
    values: list[Any]


Struct = list[Field]


def read_struct(data: bytes, start: int = 0) -> tuple[Struct, int]:
    """Read a struct and return it with the offset of its end.

    Raises:
        ValueError, IndexError: there is none.
    """
    reader = _Reader(data, start)
    return reader.struct(), reader.offset


def write_struct(struct: Struct) -> bytes:
    """Write a struct; numbers of any size are written as they are, also where none would fit."""
    written = bytearray()
    before = 0
    for field in struct:
        delta = field.number - before
        if 0 < delta < 16:
            written.append(delta << 4 | field.kind)
        else:
            written += bytes([field.kind]) + _varint(_zigzag(field.number))
        if field.kind not in (TRUE, FALSE):
            written += _write(field.kind, field.value)
        before = field.number
    return bytes(written) + b"\0"


def structs(value: Any) -> Iterator[Struct]:
    """Find all structs within a struct, itself included."""
    if isinstance(value, List):
        for each in value.values:
            yield from structs(each)
    elif isinstance(value, list):
        yield value
        for field in value:
            yield from structs(field.value)


def find(struct: Struct, number: int) -> Any:
    """Return the value of a field; raises ``KeyError`` where there is none of that number."""
    for field in struct:
        if field.number == number:
            return field.value
    raise KeyError(number)


class _Reader:
    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self.offset = offset

    def struct(self) -> Struct:
        fields: Struct = []
        number = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 15
            number = number + delta if delta else self._integer()
            fields.append(Field(number, kind, self._field(kind)))
        return fields

    def _field(self, kind: int) -> Any:
        return kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in INTEGERS:
            return self._integer()
        if kind == DOUBLE:
            return self._bytes(_DOUBLE_BYTES)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, SET):
            header = self._byte()
            n_values = header >> 4
            if n_values == _LONG_LIST:
                n_values = self._varint()
            return List(header & 15, [self._value(header & 15) for _ in range(n_values)])
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"kind {kind} of a value")

    def _byte(self) -> int:
        self.offset += 1
        return self._data[self.offset - 1]

    def _bytes(self, length: int) -> bytes:
        self.offset += length
        if self.offset > len(self._data):
            raise ValueError("beyond the end")
        return self._data[self.offset - length : self.offset]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def _write(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE, BYTE):
        return bytes([int(value) & 255])
    if kind in INTEGERS:
        return _varint(_zigzag(value))
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind in (LIST, SET):
        n_values = len(value.values)
        header = bytes([min(n_values, _LONG_LIST) << 4 | value.kind])
        length = _varint(n_values) if n_values >= _LONG_LIST else b""
        return header + length + b"".join(_write(value.kind, each) for each in value.values)
    return write_struct(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
