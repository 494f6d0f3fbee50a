"""Rows of numbers out of JSON text, at 15 ns a number.

simdjson reads the whole document and hands its numbers over as one buffer, without a Python object
for each. CSV of plain numbers is such a document but for its brackets.
"""

import threading
from typing import Any

import numpy as np
import simdjson

from container.codecs.base import Floats

# A parser keeps 13 bytes for every byte of the longest document that it has read.
_KEPT_BYTES = 2**20


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
    with np.errstate(over="ignore"):  # what does not fit becomes infinite; the codecs look for it
        return numbers.astype(np.float32).reshape(-1, width)


def from_json(document: bytes) -> Floats | None:
    """Read the document `[[1, 2], [3, 4]]`; see `of_array`. None also where it is not JSON."""
    try:
        return of_array(parse(document))
    except ValueError:
        return None
