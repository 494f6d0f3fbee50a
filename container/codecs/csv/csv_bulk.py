"""Bulk reader of CSV numbers: the fast path of `csv_codec`.

Reads a piece of text as a whole or declines it. `csv_codec` then reads it line by line, and gives
the same numbers for every text that this module reads.
"""

import numpy as np

from container.codecs.json import number_rows
from container.codecs.records import Floats

MISSING_WORDS = (b"nan", b"na", b"null")  # in lower case
BOOLEANS = {b"true": 1.0, b"false": 0.0}

# Marker of a missing cell. It overflows 32 bits and becomes infinite; the number of markers written
# and of infinities read tells it from a real overflow.
_GAP = b"1e39"
_NUMBER_BYTES = b"0123456789+-.e ,"


def read(text: bytes, delimiter: bytes, width: int) -> Floats | None:
    """Read lines of `width` cells, without the line end of the last one.

    Returns:
        Float32 `[n_lines, width]`, NaN for missing cells; None where the text is anything else.
    """
    if b"[" in text:  # which JSON would see an array in
        return None
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):  # space to JSON
        return None
    rows = number_rows.from_lines(text, b"\n", width) if delimiter == b"," else None
    if rows is None or np.count_nonzero(np.isinf(rows)):  # `any` takes 1 µs more
        rows = _marked(text, delimiter, width)
    return rows


def _marked(text: bytes, delimiter: bytes, width: int) -> Floats | None:
    """Read text after rewriting delimiters, quotes, booleans and missing cells as JSON numbers."""
    text = text.replace(b"\r\n", b"\n").lower()
    if b"!" in text or (delimiter != b"," and b"," in text):
        return None
    if width == 1 and b"\n\n" in b"\n" + text + b"\n":  # a blank line and no missing cell
        return None
    if b'"' in text and not (text := _unquoted(text, delimiter)):
        return None
    # `,1,2,!,3,4,`: a comma on either side of every cell, and `!` between lines.
    cells = b"," + text.replace(delimiter, b",").replace(b"\n", b",!,") + b","
    if b"u" in cells or b"s" in cells:
        cells = _without_booleans(cells)
    cells, n_gaps = _filled(cells)
    rows = number_rows.from_lines(cells[1:-1], b",!,", width)
    if rows is None:
        rows = _any_notation(cells[1:-1], width)
    if rows is None:
        return None
    is_gap = np.isinf(rows)
    rows[is_gap] = np.nan
    return rows if np.count_nonzero(is_gap) == n_gaps else None


def _unquoted(text: bytes, delimiter: bytes) -> bytes:
    """Strip the quotes; empty unless each cell has exactly two, one at either end."""
    n_cells = text.count(delimiter) + text.count(b"\n") + 1
    if text.count(b'"') != 2 * n_cells:
        return b""
    text = b"\n" + text.replace(b'"' + delimiter + b'"', delimiter) + b"\n"
    text = text.replace(b'\n"', b"\n").replace(b'"\n', b"\n")[1:-1]
    return b"" if b'"' in text else text


def _filled(cells: bytes) -> tuple[bytes, int]:
    """Put `_GAP` into missing cells; return the cells and the number of gaps."""
    n_gaps = 0
    for word in (b"", *MISSING_WORDS) if b"n" in cells else (b"",):
        if word == b"null":  # as long as `_GAP`: the length would not tell how many there are
            cells = cells.replace(b",null,", b",nan,").replace(b",null,", b",nan,")
            word = b"nan"
        for _ in range(2):  # of several in a row, one pass finds every other one
            filled = cells.replace(b"," + word + b",", b"," + _GAP + b",")
            n_gaps += (len(filled) - len(cells)) // (len(_GAP) - len(word))
            cells = filled
    return cells, n_gaps


def _without_booleans(cells: bytes) -> bytes:
    """Replace true and false by 1 and 0."""
    for word, number in BOOLEANS.items():
        for _ in range(2):  # of several in a row, one pass finds every other one
            cells = cells.replace(b",%b," % word, b",%d," % number)
    return cells


def _any_notation(cells: bytes, width: int) -> Floats | None:
    """Read numbers that JSON does not allow: `+1`, `.5`, `1.`, `01`, integers of any length."""
    lines = cells.split(b",!,")
    if any(line.count(b",") + 1 != width for line in lines):
        return None
    text = b",".join(lines)
    if text.translate(None, _NUMBER_BYTES):  # `float` takes words and underscores as well
        return None
    try:
        numbers = np.array(list(map(float, text.split(b","))))
    except ValueError:
        return None
    return number_rows.as_float32(numbers).reshape(-1, width)
