"""Diagnosis of a CSV line that is not a record: the kind of the fault, and its remedy.

Called on the error path only; see `diagnosis`.
"""

import re
from collections.abc import Sequence

from container.codecs.records import Columns, width_hint
from container.errors import MalformedPayloadError, counted

_NUMBER = r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:e[+-]?\d++)?"
_VALUE = re.compile(rf"{_NUMBER}|nan|na|null|true|false|", re.ASCII)
_NAME = re.compile(r"[^\W\d].*")
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]m)?"
_DECIMAL_COMMA = r"[+-]?\d*(?:\.\d{3})*,\d+(?:e[+-]?\d+)?"

# Kinds of cells, in lower case and without quotes: pattern, problem, remedy. The first match wins.
_KINDS = tuple(
    (re.compile(pattern, re.ASCII | re.DOTALL), f"the cell {kind}; {cure}")
    for pattern, kind, cure in (
        (
            r"\\n|none|n[./]a\.?|#?n/a(?: n/a)?|<na>|nat|nil|missing|undefined|\(null\)|\?+|\.|\*"
            r"|[-_]+|[+-]nan|nan\(.*\)|[+-]?1\.#(?:ind|q?nan)|#(?:div/0|null|num|ref|value)!",
            "is a marker for a missing value that is not read",
            "leave the cell empty, or write nan, NA or null",
        ),
        (
            r"[+-]?(?:inf|infinity|1\.#inf)",
            "is infinity",
            "send finite numbers, or leave the cell empty where the value is missing",
        ),
        (
            r"yes|no|y|n|t|f|on|off",
            "is a word for true or false that is not read",
            "write true and false, or 1 and 0",
        ),
        (
            r"[+-]?0[xob][\da-f_]+",
            "is a hexadecimal, octal or binary number",
            "write it in decimal",
        ),
        (r"[+-]?\d[\d_]*_[\d_.]*", "is a number with underscores", "leave them out"),
        (
            rf"\d{{4}}-\d{{1,2}}-\d{{1,2}}(?:[t ].*)?|\d{{1,4}}[/.]\d{{1,2}}[/.]\d{{4}}(?: .*)?"
            rf"|\d{{1,4}}/\d{{1,2}}/\d{{1,2}}(?: .*)?|{_TIME}",
            "is a date or a time",
            "write it as a number, of days or seconds for example",
        ),
        (
            r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?",
            "is a number with a thousands separator or a decimal comma",
            "write it without separators and with a decimal point",
        ),
        (
            r"[+-]?\d{1,3}(?:[ '\u2019\u00a0\u202f]\d{3})+(?:[.,]\d+)?|[+-]?\d{1,3}(?:\.\d{3}){2,}",
            "is a number with thousands separators",
            "write it without them",
        ),
        (
            _DECIMAL_COMMA,
            "is a number with a decimal comma",
            "write a decimal point",
        ),
        (r"[\u2012-\u2015\u2212]\s*[\d.]+", "begins with a dash", "write a minus as '-'"),
        (r"=.*", "is a formula", "write its value"),
        (r"[\[{].*", "holds an array or an object", "give each number a cell"),
        (
            r"\ufeff.*",
            "begins with a byte order mark",
            "join files without the marks that they begin with",
        ),
        (
            r"'.*'|[\u2018\u201c\xab].*",
            "is in quotation marks that are not read",
            "write the number alone, or in double quotes",
        ),
        (
            r'.*".*',
            "has a quotation mark too many or too few",
            "quote whole cells, within one line, or none",
        ),
        (
            rf"{_NUMBER}(?:[\s;|:~^\x01]+{_NUMBER})+",
            "has several numbers",
            "separate cells by commas, or throughout by what the first line has instead",
        ),
        (r".*[\x00-\x08\x0e-\x1f\x7f].*", "has control characters", "send text"),
        (r"[+-]?[\d.,]*\d\s*%", "is a percentage", "write the number alone"),
        (
            r"[+-]?\s*(?:[$€£¥₹]|eur|usd|gbp)\s*[+-]?[\d.,]*\d"
            r"|[+-]?[\d.,]*\d\s*(?:[$€£¥₹]|eur|usd|gbp)",
            "is an amount of money",
            "write the number alone",
        ),
        (
            rf"[+-]?[^\w\s.,]{{0,3}}\s*{_NUMBER}\s*(?:[a-z]|[^\w\s]).*",
            "is a number with other characters, such as those of a unit",
            "write the number alone",
        ),
        (
            r"(?=.*[^\x00-\x7f])(?u:[+-]?[\d.,]+)",
            "has digits other than 0 to 9",
            "write decimal digits",
        ),
    )
)
FOR_PANDAS = "(pandas: to_csv(…, header=False, index=False))"
_HEADER = f"the line is a header and no record; leave headers out {FOR_PANDAS}"
_TEXT = "the cell is text; send numbers only (encode categories as numbers), and no header"
_NOT_UTF_8 = "the text is not UTF-8; save it as UTF-8"
MAX_LINES = 100
_SEPARATORS = {
    b",": "commas",
    b"\t": "tabs",
    b";": "semicolons",
    b"|": "bars",
    b"\x01": "control characters (0x01)",
    b"^": "carets",
    b"~": "tildes",
    b":": "colons",
    b" ": "spaces",
}
_QUOTED = re.compile(rb'\s*+"([^"]*+)"\s*+')
_QUOTED_COMMA = re.compile(rb'"[^",]*+,[^"]*+"')
# Bounds of the diagnosis: a line may be as long as a body.
_MAX_CELLS = 100
_MAX_CELL_BYTES = 100
_MAX_LINE_BYTES = 2**16


def cell_error(
    cells: Sequence[bytes], column: int, following: bytes, delimiter: bytes, line: int
) -> MalformedPayloadError:
    """Describe the first cell of a line that is not a number.

    Args:
        cells: All cells of the line.
        column: Number of the faulty cell, from 1.
        following: The next line; empty at the end of the text.
        delimiter: Delimiter of the first line.
        line: The number of the line.
    """
    if _is_header(cells, _split(following, delimiter)):
        return MalformedPayloadError(_HEADER, line=line)
    if separated := _separated(cells, delimiter):
        return MalformedPayloadError(separated, line=line)
    rest = delimiter.join(cells[column - 1 : column + 8])
    return MalformedPayloadError(_kind(rest, delimiter), line=line, column=column)


def width_error(
    lines: Sequence[bytes], delimiter: bytes, width: int, columns: Columns, line: int
) -> MalformedPayloadError:
    """Describe a line with too many or too few cells.

    Args:
        lines: The line and those that follow it, at most `MAX_LINES`.
        delimiter: Delimiter of the first line.
        width: Expected number of cells.
        columns: Expected columns of every line.
        line: The number of the line.
    """
    row = lines[0]
    n_columns = row.count(delimiter) + 1
    cells = _split(row, delimiter)
    if _is_header(cells, _split(lines[1], delimiter) if len(lines) > 1 else ()):
        return MalformedPayloadError(_HEADER, line=line)
    others = columns.expectation or f"the first has {width}"
    problem = f"the line has {counted(n_columns, 'column')} where {others}"
    hint = _separated(cells, delimiter)
    if not hint and delimiter == b"," and _QUOTED_COMMA.search(row[:_MAX_LINE_BYTES]):
        hint = (
            "commas within quotes separate cells, too: write numbers with a decimal point and "
            "without thousands separators"
        )
    if not hint and n_columns == width + 1:
        hint = _one_too_many(lines, n_columns, delimiter, columns)
    return MalformedPayloadError(f"{problem}; {hint}" if hint else problem, line=line)


def _split(row: bytes, delimiter: bytes) -> list[bytes]:
    return row[:_MAX_LINE_BYTES].split(delimiter)[:_MAX_CELLS]


def _word(cell: bytes) -> str:
    """Return a cell without quotes, in lower case."""
    cell = cell[:_MAX_CELL_BYTES].strip()
    quoted = _QUOTED.fullmatch(cell)
    return (quoted[1] if quoted else cell).strip().decode("utf-8", "replace").lower()


def _is_header(cells: Sequence[bytes], following: Sequence[bytes]) -> bool:
    """Return True if most cells are names, and have values below them."""
    words = [_word(cell) for cell in cells[:_MAX_CELLS]]
    is_name = [bool(_NAME.match(word)) and not _VALUE.fullmatch(word) for word in words]
    below = [bool(_VALUE.fullmatch(_word(cell))) for cell in following]
    n_named = sum(name and value for name, value in zip(is_name, below, strict=False))
    n_filled = len(words) - words.count("")
    return 2 * sum(is_name) > n_filled and 2 * n_named > sum(is_name)


def _separated(cells: Sequence[bytes], delimiter: bytes) -> str:
    """Describe the separator of a line if it is not the delimiter; empty otherwise."""
    row = delimiter.join(cells)[:_MAX_LINE_BYTES]
    if delimiter == b",":
        words = [_word(cell) for cell in row.split(b";")[:_MAX_CELLS]]
        is_decimal = [bool(re.fullmatch(_DECIMAL_COMMA, word, re.ASCII)) for word in words]
        if len(words) > 1 and any(is_decimal) and all(map(_is_value_or, words, is_decimal)):
            return "the line has semicolons between its cells and decimal commas; write points"
    if len(cells) > 1 or re.fullmatch(_TIME, _word(row), re.ASCII):
        return ""
    for separator, name in _SEPARATORS.items():
        parts = row.split() if separator == b" " else row.split(separator)
        if len(parts) > 1 and all(_VALUE.fullmatch(_word(cell)) for cell in parts[:_MAX_CELLS]):
            right = _SEPARATORS[delimiter]
            return f"the line's cells are separated by {name}; separate them by {right}"
    return ""


def _is_value_or(word: str, is_other: bool) -> bool:
    return is_other or bool(_VALUE.fullmatch(word))


def _kind(rest: bytes, delimiter: bytes) -> str:
    """Name the kind of the first cell of `rest`, and the remedy."""
    quoted = _QUOTED.match(rest)
    is_whole = quoted is not None and rest[quoted.end() : quoted.end() + 1] in (b"", delimiter)
    cell = quoted[1] if quoted and is_whole else rest.partition(delimiter)[0]
    try:
        word = cell.strip().decode().lower()
    except UnicodeDecodeError:
        return _NOT_UTF_8
    if len(word) <= _MAX_CELL_BYTES:
        for kind, problem in _KINDS:
            if kind.fullmatch(word):
                return problem
    return _TEXT


def _one_too_many(
    lines: Sequence[bytes], n_columns: int, delimiter: bytes, columns: Columns
) -> str:
    """Guess the column that is one too many; empty without a clue."""
    if all(row.endswith(delimiter) for row in lines):
        return "every line ends in a separator: leave it out" if len(lines) > 1 else _SEPARATOR_LAST
    if lines[0].endswith(delimiter):
        return _SEPARATOR_LAST
    if columns.n_features is None:
        return ""
    if _counts_up([row.partition(delimiter)[0] for row in lines]):
        return f"the first column counts up by 1, as an index does: leave it out {FOR_PANDAS}"
    return width_hint(n_columns, columns)


_SEPARATOR_LAST = "it ends in a separator: leave that out"


def _counts_up(cells: Sequence[bytes]) -> bool:
    if len(cells) < 2 or not all(cell.isdigit() and len(cell) < 10 for cell in cells):
        return False
    return all(int(cell) == int(cells[0]) + index for index, cell in enumerate(cells))
