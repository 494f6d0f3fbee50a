"""`text/csv` as a table: RFC 4180, in UTF-8.

Cells with a delimiter, a quote or a line end are quoted, quotes within doubled. The first line has
the names of the columns if the content type says so, `text/csv; header=present`. The delimiter is a
comma, or the tab, semicolon or bar that the first line has instead.
"""

import csv
import io

from container import content_types
from container.codecs import diagnosis, text_lines
from container.codecs.table.cells import Cells
from container.errors import MalformedPayloadError, counted

_OTHER_DELIMITERS = "\t;|"
_NO_RECORDS = "there are no records"


def read(body: bytes, *, has_header: bool) -> Cells:
    """Read all records.

    Raises:
        MalformedPayloadError: with the line: the text is not UTF-8, a quote is not closed, a line
            is blank, or has another number of cells than the first.
    """
    try:
        return _read(_text(text_lines.trimmed(body)), has_header=has_header)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.CSV) from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise MalformedPayloadError("the text is not UTF-8", line=line) from None


def _read(text: str, *, has_header: bool) -> Cells:
    if not text:
        raise MalformedPayloadError(_NO_RECORDS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for record in reader:
            if not record:
                problem = "the line is blank; leave blank lines out"
                raise MalformedPayloadError(problem, line=line)
            if records and len(record) != len(records[0]):
                raise MalformedPayloadError(
                    f"the record has {counted(len(record), 'cell')} where the first has "
                    f"{len(records[0])}",
                    line=line,
                )
            records.append(record)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise MalformedPayloadError(f"the text is not CSV: {error}", line=line) from None
    names = tuple(records.pop(0)) if has_header else None
    if not records:
        raise MalformedPayloadError(_NO_RECORDS)
    columns = list(zip(*records, strict=True))
    return Cells(columns, names, is_text=True, lines=lines[has_header:])


def _delimiter(text: str) -> str:
    end = text.find("\n")
    first = text if end < 0 else text[:end]
    if "," in first:
        return ","
    return next((each for each in _OTHER_DELIMITERS if each in first), ",")
