"""`text/csv`: records without a header, one a line.

Lines end in LF or CRLF, the last one with or without; a carriage return anywhere else is refused.
Cells are numbers, `true` (1) or `false` (0), padded with spaces or quoted or not; an empty cell,
`nan`, `na` and `null` are missing values. Words are read in any case. The delimiter is a comma, or
the tab, semicolon or bar that the first line has instead. A blank line among the records is refused
rather than skipped: the number of predictions would no longer be the number of lines (C-072).

A line is read the same whatever lines are beside it. The fast path (`csv_bulk`) reads a whole piece
of text or declines it, and gives the numbers that `_line_by_line` would give.
"""

import re
from array import array

import numpy as np

from container import content_types
from container.codecs import diagnosis, number_text, text_lines
from container.codecs.csv import csv_bulk, csv_diagnosis
from container.codecs.json import number_rows
from container.codecs.records import (
    FLOAT32_OVERFLOW,
    Batch,
    Columns,
    DenseRows,
    Floats,
    NamedOutputs,
    dense_batch,
)
from container.errors import MalformedPayloadError

_OTHER_DELIMITERS = (b"\t", b";", b"|")
# Possessive: giving digits back one by one would take seconds on a cell of thousands of them.
_NUMBER = re.compile(rb"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?")
_NO_RECORDS = "there are no records"
_MISSING = frozenset({b"", *csv_bulk.MISSING_WORDS})


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: with the line and the column of the first cell that is not a number,
            or the line whose width differs from that of `columns` or of the first line.
    """
    try:
        if len(body) > text_lines.PIECE_BYTES:
            return _in_pieces(body, columns)
        text = text_lines.trimmed(body)
        delimiter, width = _layout(text, columns)
        return dense_batch(_rows(text, delimiter, width, 1, columns), columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.CSV) from None


def encode(values: Floats) -> bytes:
    """Write one line a record; several outputs are separated by commas."""
    text = number_text.with_words(number_text.as_json(values), values)
    if values.ndim == 1:
        return text[1:-1].replace(b",", b"\n") + b"\n"
    return text[2:-2].replace(b"],[", b"\n") + b"\n"


def encode_named(outputs: NamedOutputs) -> bytes:
    """Write one line a record, the values in the order of the names; lists as `"[0.4, 0.6]"`."""
    columns = [number_text.csv_cells(values) for values in outputs.values()]
    return b"".join(b",".join(record) + b"\n" for record in zip(*columns, strict=True))


def _in_pieces(body: bytes, columns: Columns) -> Batch:
    batch: DenseRows | None = None
    line = 1
    for piece in text_lines.pieces(body):
        if batch is None:
            delimiter, width = _layout(piece, columns)
            # Every cell has a delimiter or a line end, but for the very last one.
            batch = DenseRows(len(body) // width + 1, width, columns)
        rows = _rows(piece, delimiter, width, line, columns)
        batch.add(rows)
        line += len(rows)
    if batch is None:
        raise MalformedPayloadError(_NO_RECORDS)
    return batch.batch()


def _layout(text: bytes, columns: Columns) -> tuple[bytes, int]:
    """Return the delimiter, and the number of columns that every line must have."""
    if not text:
        raise MalformedPayloadError(_NO_RECORDS)
    end = text.find(b"\n")
    if end < 0:
        end = len(text)
    delimiter = b","
    if text.find(b",", 0, end) < 0:
        found = (other for other in _OTHER_DELIMITERS if text.find(other, 0, end) >= 0)
        delimiter = next(found, b",")
    return delimiter, columns.width or text.count(delimiter, 0, end) + 1


def _rows(text: bytes, delimiter: bytes, width: int, line: int, columns: Columns) -> Floats:
    """Parse lines, `line` the number of the first, into float32 `[n_lines, width]`."""
    end = text.find(b"\n")
    # The width is compared first, since a line may be as long as a body. A delimiter within quotes
    # is counted: such a cell is not a number.
    if text.count(delimiter, 0, end if end >= 0 else len(text)) + 1 == width:
        rows = csv_bulk.read(text, delimiter, width)
        if rows is not None:
            return rows
    return _line_by_line(text, delimiter, width, line, columns)


def _line_by_line(text: bytes, delimiter: bytes, width: int, line: int, columns: Columns) -> Floats:
    """Read line by line: exact, and finds the first fault."""
    numbers = array("d")
    lines = text.replace(b"\r\n", b"\n").split(b"\n")
    for number, row in enumerate(lines, start=line):
        if b"\r" in row:
            raise MalformedPayloadError(
                "the line has a carriage return within it; end lines in LF or CRLF", line=number
            )
        n_columns = row.count(delimiter) + 1
        if n_columns == 1 and not row.strip():
            raise MalformedPayloadError("the line is blank; leave blank lines out", line=number)
        if n_columns != width:
            rest = lines[number - line : number - line + csv_diagnosis.MAX_LINES]
            raise csv_diagnosis.width_error(rest, delimiter, width, columns, number)
        cells = row.split(delimiter)
        for column, cell in enumerate(cells, start=1):
            value = _number(cell, number, column)
            if value is None:
                following = b"".join(lines[number - line + 1 : number - line + 2])
                raise csv_diagnosis.cell_error(cells, column, following, delimiter, number)
            numbers.append(value)
    return number_rows.as_float32(np.frombuffer(numbers)).reshape(-1, width)


def _number(cell: bytes, line: int, column: int) -> float | None:
    """Return the value of a cell; None if it is not a number."""
    cell = cell.strip()
    if len(cell) > 1 and cell.startswith(b'"') and cell.endswith(b'"'):
        cell = cell[1:-1].strip()
    if _NUMBER.fullmatch(cell):
        number = float(cell)
        if abs(number) < FLOAT32_OVERFLOW:
            return number
        raise MalformedPayloadError(
            "the number does not fit a 32-bit float", line=line, column=column
        )
    word = cell.lower()
    if word in _MISSING:
        return float("nan")
    return csv_bulk.BOOLEANS.get(word)
