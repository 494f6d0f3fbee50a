"""Numbers as text: the shortest text that reads as the same 32-bit float, by orjson in bulk."""

import math
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


def as_json(values: NDArray[Any]) -> bytes:
    """Write numbers `[n]` or `[n, k]` as a JSON array; NaN and infinity become null."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def with_words(text: bytes, values: NDArray[Any]) -> bytes:
    """Replace each null of `as_json` by `nan`, `inf` or `-inf`, which JSON does not have."""
    if b"null" not in text:
        return text
    words = [repr(value).encode() for value in values.ravel().tolist() if not math.isfinite(value)]
    pieces = text.split(b"null")
    return b"".join(part for pair in zip(pieces, [*words, b""], strict=True) for part in pair)


def json_cells(values: NDArray[Any]) -> list[bytes]:
    """Write one JSON number, list or null a record, given `[n_rows]` or `[n_rows, k]`."""
    return _cells(as_json(values), values.ndim)


def csv_cells(values: NDArray[Any]) -> list[bytes]:
    """Write one CSV cell a record: lists as `"[0.4, 0.6]"`, and `nan` for a missing value."""
    cells = _cells(with_words(as_json(values), values), values.ndim)
    if values.ndim == 1:
        return cells
    return [b'"' + cell.replace(b",", b", ") + b'"' for cell in cells]


def _cells(text: bytes, n_dimensions: int) -> list[bytes]:
    if len(text) <= 2:  # no records
        return []
    if n_dimensions == 1:
        return text[1:-1].split(b",")
    return [b"[" + row + b"]" for row in text[2:-2].split(b"],[")]
