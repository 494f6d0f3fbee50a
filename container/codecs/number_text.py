"""Numbers as text: the shortest that gives the same 32-bit float back, made by orjson in bulk."""

import math
import re
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from container.codecs.records import Selected

# Classes count from 0: models hold them as floats, and they are written as the integers they are.
_LABEL_KEYS = frozenset({"predicted_label", "labels"})
_NO_FRACTION = re.compile(rb"\.0(?=[,\]])")


def as_json(values: NDArray[Any]) -> bytes:
    """Write numbers `[n]` or `[n, k]` as a JSON array; NaN and infinity become null."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def with_words(text: bytes, values: NDArray[Any]) -> bytes:
    """Put `nan`, `inf` and `-inf` back, which JSON has no words for, where `as_json` wrote null."""
    if b"null" not in text:
        return text
    words = [repr(value).encode() for value in values.ravel().tolist() if not math.isfinite(value)]
    pieces = text.split(b"null")
    return b"".join(part for pair in zip(pieces, [*words, b""], strict=True) for part in pair)


def json_cells(selected: Selected, key: str) -> list[bytes]:
    """The values of one selected key, one JSON number, list or null a record."""
    return _cells(_text(selected, key), selected.columns[key].ndim)


def csv_cells(selected: Selected, key: str) -> list[bytes]:
    """The same as CSV: lists as `"[0.4, 0.6]"`, and `nan` for null."""
    values = selected.columns[key]
    cells = _cells(with_words(_text(selected, key), values), values.ndim)
    if values.ndim == 1:
        return cells
    return [b'"' + cell.replace(b",", b", ") + b'"' for cell in cells]


def _text(selected: Selected, key: str) -> bytes:
    text = as_json(selected.columns[key])
    return _NO_FRACTION.sub(b"", text) if key in _LABEL_KEYS else text


def _cells(text: bytes, n_dimensions: int) -> list[bytes]:
    if len(text) <= 2:  # no records
        return []
    if n_dimensions == 1:
        return text[1:-1].split(b",")
    return [b"[" + row + b"]" for row in text[2:-2].split(b"],[")]
