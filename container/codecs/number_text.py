"""Values as text: numbers by orjson in bulk, as the shortest text that reads as the same number."""

import csv
import io
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


def is_text(values: NDArray[Any]) -> bool:
    """Return True for an array of strings."""
    return values.dtype.kind in "OU"


def json_cells(values: NDArray[Any]) -> list[bytes]:
    """Write one JSON value a record, given `[n_rows]`, or a list of them, given `[n_rows, k]`."""
    if is_text(values):
        return [orjson.dumps(value) for value in values.tolist()]
    return _cells(as_json(values), values.ndim)


def csv_cells(values: NDArray[Any]) -> list[bytes]:
    """Write one CSV cell a record: lists as `"[0.4, 0.6]"`, and `nan` for a missing number."""
    if is_text(values):
        return [_quoted(value) for value in values.tolist()]
    cells = _cells(with_words(as_json(values), values), values.ndim)
    if values.ndim == 1:
        return cells
    return [b'"' + cell.replace(b",", b", ") + b'"' for cell in cells]


def _quoted(value: Any) -> bytes:
    """Write a cell of text, quoted where CSV asks for it; nothing for a missing value."""
    if value is None:
        return b""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow([text])
    return stream.getvalue().encode()


def _cells(text: bytes, n_dimensions: int) -> list[bytes]:
    if len(text) <= 2:  # no records
        return []
    if n_dimensions == 1:
        return text[1:-1].split(b",")
    return [b"[" + row + b"]" for row in text[2:-2].split(b"],[")]
