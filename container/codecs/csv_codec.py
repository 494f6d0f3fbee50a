"""`text/csv`: records without a header, one a line.

Cells are numbers; an empty cell or `nan` is a missing value. Rows end in LF or CRLF, the last one
with or without. The delimiter is a comma, or the tab, semicolon or bar that the first line has
instead. Cells may be quoted. A blank line among the records is refused rather than skipped: the
number of predictions would no longer be the number of lines (C-072).
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator

import numpy as np

from container.codecs import number_rows, number_text
from container.codecs.base import Batch, Columns, Floats, Selected, dense_batch
from container.errors import MalformedPayloadError

_BOM = b"\xef\xbb\xbf"
_OTHER_DELIMITERS = (b"\t", b";", b"|")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_VALUE = float(np.finfo(np.float32).max)
_MISSING = frozenset({"", "nan", "na", "null"})


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: with the line and the column of the first cell that is not a number,
            or the line whose width differs from the first one's.
    """
    return dense_batch(_matrix(body.removeprefix(_BOM).rstrip(b"\r\n")), columns)


def encode(values: Floats) -> bytes:
    """Write one line a record; several outputs are separated by commas."""
    text = number_text.with_words(number_text.as_json(values), values)
    if values.ndim == 1:
        return text[1:-1].replace(b",", b"\n") + b"\n"
    return text[2:-2].replace(b"],[", b"\n") + b"\n"


def encode_selected(selected: Selected) -> bytes:
    """Write one line a record, the values in the order of the keys; lists as `"[0.4, 0.6]"`."""
    columns = [number_text.csv_cells(selected, key) for key in selected.keys]
    return b"".join(b",".join(record) + b"\n" for record in zip(*columns, strict=True))


def _matrix(text: bytes) -> Floats:
    """Parse the cells, in the quickest of three ways that reads this text."""
    if not text:
        raise MalformedPayloadError("there are no records")
    delimiter = _delimiter(text)
    rows = _plain_numbers(text, delimiter)
    if rows is None:
        rows = _numbers_and_gaps(text, delimiter)
    if rows is None or np.isinf(rows).any():
        rows = _cell_by_cell(text, delimiter)
    return rows


def _plain_numbers(text: bytes, delimiter: bytes) -> Floats | None:
    """Cells that JSON would call numbers: nothing missing, quoted, padded or oddly signed."""
    if delimiter != b"," or b"[" in text or b"]" in text:
        return None
    return number_rows.from_json(b"[[" + text.replace(b"\n", b"],[") + b"]]")


def _numbers_and_gaps(text: bytes, delimiter: bytes) -> Floats | None:
    """Any decimal notation, and empty cells; three times slower."""
    gap, filled = delimiter * 2, delimiter + b"nan" + delimiter
    # Twice, because of three empty cells in a row the first pass fills every other one.
    whole = b"\n" + text.replace(b"\r\n", b"\n").replace(gap, filled).replace(gap, filled) + b"\n"
    whole = whole.replace(b"\n" + delimiter, b"\nnan" + delimiter)
    whole = whole.replace(delimiter + b"\n", delimiter + b"nan\n")
    try:
        with warnings.catch_warnings(action="error"):
            rows = np.loadtxt(
                io.BytesIO(whole[1:-1]),
                dtype=np.float32,
                delimiter=delimiter.decode(),
                comments=None,
                ndmin=2,
                encoding="ascii",
            )
    except (ValueError, Warning):
        return None
    # It passes over blank lines, which would lose a record.
    return rows if len(rows) == text.count(b"\n") + 1 else None


def _delimiter(text: bytes) -> bytes:
    end = text.find(b"\n")
    first_line = text if end < 0 else text[:end]
    if b"," not in first_line:
        for candidate in _OTHER_DELIMITERS:
            if candidate in first_line:
                return candidate
    return b","


def _cell_by_cell(text: bytes, delimiter: bytes) -> Floats:
    """The exact reading: quotes, spaces, and where the first fault is."""
    width = 0
    cells: list[float] = []
    for line, row in _lines(text, delimiter.decode()):
        if not row:
            raise MalformedPayloadError("the line is blank; leave blank lines out", line=line)
        width = width or len(row)
        if len(row) != width:
            raise MalformedPayloadError(
                f"the line has {len(row)} columns where the first has {width}", line=line
            )
        for column, cell in enumerate(row, start=1):
            cells.append(_number(cell, line, column))
    return np.array(cells, dtype=np.float32).reshape(-1, width)


def _lines(text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise MalformedPayloadError("the text is not UTF-8", line=line) from error
    reader = csv.reader(io.StringIO(decoded, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise MalformedPayloadError(f"the line is not CSV: {error}", line=line) from error


def _number(cell: str, line: int, column: int) -> float:
    cell = cell.strip()
    if cell.lower() in _MISSING:
        return float("nan")
    if not _NUMBER.fullmatch(cell):
        raise MalformedPayloadError(
            "the cell is not a number; send numbers only, and no header", line=line, column=column
        )
    number = float(cell)
    if abs(number) > _MAX_VALUE:
        raise MalformedPayloadError(
            "the number does not fit a 32-bit float", line=line, column=column
        )
    return number
