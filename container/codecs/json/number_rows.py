"""Rows of numbers out of JSON text, at 15 ns a number.

simdjson reads the whole document and hands its numbers over as one buffer, without a Python object
for each. CSV of plain numbers is such a document but for its brackets.
"""

import threading
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from container.codecs.records import Floats

# A parser keeps 13 bytes for every byte of the longest document that it has read.
_KEPT_BYTES = 2**20
# Stands for the end of a line among numbers.
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
        of this thread's parser: let go of it soon.
    Raises:
        ValueError: it is not JSON, nests 1024 deep, or has an integer of more than 64 bits.
    """
    if len(document) <= _KEPT_BYTES:
        try:
            return _own.parser.parse(document)
        except RuntimeError:
            # The document is at fault; or something, say the traceback of an error, still holds on
            # to an earlier one. A new parser knows which.
            _own.parser = simdjson.Parser()
    try:
        return simdjson.Parser().parse(document)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def of_array(rows: Any) -> Floats | None:
    """Read a parsed `[[1, 2], [3, 4]]` as float32 `[n_rows, n_columns]`.

    What nests deeper is read as if it did not: whoever allows for it counts the brackets.

    Returns:
        None where it is anything else: ragged, empty, or with a value that is not a number. Who
        needs to know why reads it another way.
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

    What does not fit becomes infinite, which the codecs look for; zero has no sign, since integers
    have none.
    """
    rounded: Floats = np.add(numbers, 0.0, dtype=np.float32)
    return rounded


def from_lines(text: bytes, line_end: bytes, width: int) -> Floats | None:
    """Read lines of numbers with commas between them, without the line end of the last one.

    All are read as one array, with a number that fits no float32 where each line ends: where those
    are, and how many of them, tells whether every line is `width` numbers wide. An array in an
    array is much dearer to read. Text with brackets must not come here.

    Returns:
        Float32 `[n_lines, width]`, infinite where a number does not fit; None where a line has
        another width, or is not JSON between its commas.
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
    """Read the document `[1, 2, 3]`; None where it is anything else."""
    try:
        return np.frombuffer(parse(document).as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, AttributeError, RuntimeError):
        return None
