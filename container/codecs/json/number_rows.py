"""Rows of numbers parsed from JSON text, at 15 ns a number.

simdjson parses the whole document and returns its numbers as one buffer, without a Python object
for each. CSV of plain numbers is such a document without brackets.
"""

import threading
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from container.codecs.records import Floats

# A parser keeps 13 bytes for every byte of the longest document that it has read.
_KEPT_BYTES = 2**20
# Marker of a line end among numbers.
_LINE_END = b",1e40,"
_LINE_END_NUMBER = 1e40


class _ThreadsOwn(threading.local):
    def __init__(self) -> None:
        self.parser = simdjson.Parser()  # keeps its buffers from one document to the next


_own = _ThreadsOwn()


def parse(document: bytes) -> Any:
    """Parse a JSON document.

    Returns:
        None, a Python scalar, or a `simdjson.Array` or `simdjson.Object`, which lies in the memory
        of this thread's parser: drop the reference soon.
    Raises:
        ValueError: the document is not JSON, nests 1024 deep, or has an integer of more than 64
            bits.
    """
    if len(document) <= _KEPT_BYTES:
        try:
            return _own.parser.parse(document)
        except RuntimeError:
            # Either the document is at fault, or something, such as the traceback of an error,
            # still refers to an earlier document. A new parser tells which.
            _own.parser = simdjson.Parser()
    try:
        return simdjson.Parser().parse(document)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def of_array(rows: Any) -> Floats | None:
    """Read a parsed `[[1, 2], [3, 4]]` as float32 `[n_rows, n_columns]`.

    Deeper arrays are flattened: a caller that must refuse them counts the brackets of the text.

    Returns:
        None if the rows are ragged or empty, or a value is not a number.
    """
    try:
        widths = set(map(len, rows))
        numbers = np.frombuffer(rows.as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return None
    if len(widths) != 1 or len(numbers) != len(rows) * (width := widths.pop()) or not width:
        return None
    return as_float32(numbers).reshape(-1, width)


@np.errstate(over="ignore")
def as_float32(numbers: NDArray[np.float64]) -> Floats:
    """Round `[n]` or `[n, k]` to 32 bits.

    A number that does not fit becomes infinite, for which the codecs check. Zero loses its sign, as
    in formats of integers.
    """
    rounded: Floats = np.add(numbers, 0.0, dtype=np.float32)
    return rounded


def from_lines(text: bytes, line_end: bytes, width: int) -> Floats | None:
    """Read lines of numbers with commas between them, without the line end of the last one.

    All lines are parsed as one array, since nested arrays take much longer. A number that does not
    fit a float32 marks each line end: the positions of these markers tell whether every line has
    `width` numbers. The caller must keep out text with brackets.

    Returns:
        Float32 `[n_lines, width]`, infinite where a number does not fit; None if a line has
        another width, or a cell is not a JSON number.
    """
    cells = text.replace(line_end, _LINE_END)
    n_lines = (len(cells) - len(text)) // (len(_LINE_END) - len(line_end)) + 1
    if n_lines == 1:
        numbers = from_flat_json(b"[%b]" % cells)
        if numbers is None or len(numbers) != width:
            return None
        return as_float32(numbers).reshape(1, width)
    numbers = from_flat_json(b"[%b,1e40]" % cells)
    if numbers is None or len(numbers) != n_lines * (width + 1):
        return None
    rows = numbers.reshape(n_lines, width + 1)
    if np.count_nonzero(rows[:, width] == _LINE_END_NUMBER) != n_lines:
        return None
    return as_float32(rows[:, :width])


def from_flat_json(document: bytes) -> NDArray[np.float64] | None:
    """Read the document `[1, 2, 3]` as float64; None for every other document."""
    try:
        return np.frombuffer(parse(document).as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return None
