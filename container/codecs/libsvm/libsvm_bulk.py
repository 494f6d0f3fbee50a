"""Bulk reader of libsvm: the fast path of `libsvm_codec`.

Reads a piece of text as a whole or declines it. `libsvm_codec` then reads it line by line, and
gives the same numbers for every text that this module reads.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from container.codecs.json import number_rows
from container.codecs.records import Floats, QueryIds

_SPACE, _COLON, _LINE_END = b" :\n"
_TO_COMMAS = bytes.maketrans(b" :\n", b",,,")
_DIGITS = b"0123456789"
_OTHER_NUMBER_BYTES = b"+-.eE"
_QUERY_ID = re.compile(rb"^([^ \n]++) qid:(\d{1,18})(?= |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines in compressed sparse row form.

    Labels and weights are empty unless required. Query ids are empty if the lines have none.
    """

    lengths: NDArray[np.int64]  # [n_lines], of cells
    columns: NDArray[np.int32]
    values: Floats
    labels: Floats
    weights: Floats
    query_ids: QueryIds


def read(text: bytes, *, label_required: bool, allowed: range) -> Lines | None:
    """Read lines, without the line end of the last one.

    Args:
        text: Tokens between single spaces, no comments.
        label_required: As in `libsvm_codec`.
        allowed: The accepted column numbers.
    Returns:
        None if the text has another form, or a fault.
    """
    text = text.replace(b"\r\n", b"\n").replace(b" \n", b"\n").rstrip(b" ")
    query_ids: QueryIds = np.empty(0, dtype=np.int64)
    if b"qid:" in text:
        found = _QUERY_ID.findall(text) if label_required else []
        if len(found) != text.count(b"\n") + 1:
            return None
        query_ids = np.array([digits for _, digits in found]).astype(np.int64)
        text = _QUERY_ID.sub(rb"\1", text)
    text = b"\n" + text + b"\n"
    separators = _separators(text)
    numbers = _numbers(text[1:-1])
    # Tabs, which JSON passes over, are left among the separators.
    if separators is None or numbers is None or len(separators) != len(numbers) + 1:
        return None
    before, after = separators[:-1], separators[1:]  # of each number
    is_first = before == _LINE_END
    has_colon = after == _COLON
    is_value = before == _COLON
    if (is_value & has_colon).any() or ((before == _SPACE) & ~has_colon).any():
        return None
    is_label = is_first if label_required else is_first & ~has_colon
    is_weight = np.zeros_like(is_first)
    is_weight[1:] = (is_label & has_colon)[:-1]
    is_column = has_colon & ~is_label
    columns = numbers[is_column]
    rows = np.cumsum(is_first)[is_column] - 1
    if not _increase(columns, rows):
        return None
    if len(columns) and not allowed.start <= columns.min() <= columns.max() < allowed.stop:
        return None
    rounded = number_rows.as_float32(numbers)
    if np.isinf(rounded[~is_column]).any():
        return None
    n_lines = np.count_nonzero(is_first)
    weights = np.ones(n_lines if label_required else 0, dtype=np.float32)
    weights[np.cumsum(is_first)[is_weight] - 1] = rounded[is_weight]
    return Lines(
        lengths=np.bincount(rows, minlength=n_lines),
        columns=columns.astype(np.int32),
        values=rounded[is_value & ~is_weight],
        labels=rounded[is_label] if label_required else weights,
        weights=weights,
        query_ids=query_ids,
    )


def _separators(text: bytes) -> NDArray[np.uint8] | None:
    """Return the spaces, colons and line ends; None if a column is not a plain integer."""
    marks = text.translate(None, _DIGITS)
    of_text = np.frombuffer(marks, dtype=np.uint8)
    is_colon = of_text[1:] == _COLON
    if (is_colon & (of_text[:-1] != _SPACE) & (of_text[:-1] != _LINE_END)).any():
        return None
    return np.frombuffer(marks.translate(None, _OTHER_NUMBER_BYTES), dtype=np.uint8)


def _numbers(text: bytes) -> NDArray[np.float64] | None:
    if b"#" in text or b"\r" in text or b"," in text or b"[" in text:
        return None
    return number_rows.from_flat_json(b"[" + text.translate(_TO_COMMAS) + b"]")


def _increase(columns: NDArray[np.float64], rows: NDArray[np.int64]) -> bool:
    """Return True if the columns increase along each row."""
    return bool(((np.diff(columns) > 0) | (np.diff(rows) > 0)).all())
