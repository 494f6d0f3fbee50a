"""Cells of a payload before their columns have a kind, and their conversion to a `Table`.

CSV does not tell text from numbers, JSON and Parquet do. In a column of numbers a cell may also be
`true` (1), `false` (0) or one of the words for a missing value, as in `csv_codec`. In a column of
text only an empty CSV cell, or null, is missing: "NA" may be a country.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.codecs import column_names
from container.codecs.csv import csv_bulk
from container.codecs.records import Floats
from container.codecs.table.table import Table, described
from container.errors import MalformedPayloadError, counted
from container.manifest import ModelManifest
from container.schema import Kind, Schema

# Of a request. They are Python objects, ten times as large in memory as numbers of a matrix.
MAX_CELLS = 2**23
MAX_CHARACTERS = 2**16  # of one cell

_NUMBER = re.compile(r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?", re.ASCII)
_BOOLEANS = {word.decode(): value for word, value in csv_bulk.BOOLEANS.items()}
_MISSING = frozenset({"", *(word.decode() for word in csv_bulk.MISSING_WORDS)})
_NOT_A_NUMBER = object()
_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "an array",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells column by column: str, int, float, bool, or None for a missing one."""

    columns: Sequence[Sequence[Any]]
    names: tuple[str, ...] | None = None
    is_text: bool = False  # all cells are str: the format does not tell numbers from text
    lines: Sequence[int] | None = None  # the line of each record, counted from 1

    @property
    def n_rows(self) -> int:
        """Number of records."""
        return len(self.columns[0]) if self.columns else 0

    def without(self, n_leading: int) -> "Cells":
        """Return a copy without the leading columns."""
        names = self.names[n_leading:] if self.names is not None else None
        return replace(self, columns=self.columns[n_leading:], names=names)

    def error(self, problem: str, record: int, column: int) -> MalformedPayloadError:
        """Return an error at a record and a column, both counted from 0."""
        problem = f"{described(self.names, column)}: {problem}"
        if self.lines is not None:
            return MalformedPayloadError(problem, line=self.lines[record])
        return MalformedPayloadError(problem, record=record + 1)


def kinds(cells: Cells) -> tuple[Kind, ...]:
    """Return the kind of each column: numbers unless a cell is something else.

    Raises:
        MalformedPayloadError: a column of JSON or Parquet has text and numbers.
    """
    return tuple(_kind(cells, index) for index in range(len(cells.columns)))


def table(cells: Cells, schema: Schema) -> Table:
    """Convert cells to the columns of a schema, matched by name where both sides have names.

    Raises:
        MalformedPayloadError: with the line or record, and the column: another number of columns, a
            missing, unknown or repeated name, or a cell that is not of its column's kind.
    """
    names = schema.names
    if names is not None and cells.names is not None:
        cells = in_order(cells, names, "the model")
    if len(cells.columns) != len(schema.columns):
        raise MalformedPayloadError(
            f"the records have {counted(len(cells.columns), 'column')} where "
            f"{len(schema.columns)} are expected"
        )
    cells = replace(cells, names=names or cells.names)
    convert: dict[Kind, Callable[[Cells, int], NDArray[Any]]] = {"number": numbers, "text": texts}
    return Table(
        tuple(convert[kind](cells, index) for index, kind in enumerate(schema.kinds)), names
    )


def first_column(cells: Cells) -> NDArray[Any]:
    """Convert the first column, of whichever kind it is; raises `MalformedPayloadError`."""
    return numbers(cells, 0) if _kind(cells, 0) == "number" else texts(cells, 0)


def in_order(
    cells: Cells, names: tuple[str, ...], whose: str = "the first file of the job"
) -> Cells:
    """Return the columns in the order of `names`.

    Raises:
        MalformedPayloadError: a name is missing, unknown, or occurs twice.
    """
    if cells.names is None or cells.names == names:
        return cells
    places = column_names.for_job(cells.names, names, whose)
    return replace(cells, columns=[cells.columns[place] for place in places], names=names)


def of_record(described: ModelManifest) -> Table | Floats:
    """Return the example of a manifest as one record, a table or float32 `[1, n_features]`.

    A record of zeros, or of missing cells, stands for an example that is absent.
    """
    facts = described.model
    if facts.records is not None:
        example = facts.example or [None] * len(facts.records.columns)
        return table(Cells([[cell] for cell in example], facts.records.names), facts.records)
    values = [np.nan if cell is None else cell for cell in facts.example or [0] * facts.n_features]
    return np.array([values], dtype=np.float32)


def numbers(cells: Cells, index: int) -> NDArray[np.float64]:
    """Convert a column to float64; raises `MalformedPayloadError` for a cell that is no number."""
    values = np.empty(cells.n_rows)
    for record, cell in enumerate(cells.columns[index]):
        value = _number(cell, is_text=cells.is_text)
        if value is _NOT_A_NUMBER:
            given = _KINDS.get(type(cell), "something else")
            problem = f"expected a number, or nothing for a missing value, not {given}"
            raise cells.error(problem, record, index)
        if value in (float("inf"), float("-inf")):
            raise cells.error("the number is infinite or does not fit 64 bits", record, index)
        values[record] = value
    return values


def texts(cells: Cells, index: int) -> NDArray[np.object_]:
    """Convert a column to strings; raises `MalformedPayloadError` for a cell that is no text."""
    values = np.empty(cells.n_rows, dtype=object)
    for record, cell in enumerate(cells.columns[index]):
        if cell is None or (cells.is_text and not cell):
            continue
        if not isinstance(cell, str):
            problem = f"expected text, or null for a missing value, not {_KINDS.get(type(cell))}"
            raise cells.error(problem, record, index)
        if problem := _fault(cell):
            raise cells.error(problem, record, index)
        values[record] = cell
    return values


def _kind(cells: Cells, index: int) -> Kind:
    text: int | None = None
    number: int | None = None
    for record, cell in enumerate(cells.columns[index]):
        if cell is None:
            continue
        if _number(cell, is_text=cells.is_text) is not _NOT_A_NUMBER:
            number = record if number is None else number
        elif cells.is_text:
            return "text"
        else:
            text = record if text is None else text
    if text is not None and number is not None:
        problem = "text and numbers in one column; write all of them as text, or all as numbers"
        raise cells.error(problem, max(text, number), index)
    return "number" if text is None else "text"


def _number(cell: Any, *, is_text: bool) -> Any:
    """Return the value of a cell as float, or `_NOT_A_NUMBER`."""
    if cell is None:
        return float("nan")
    if isinstance(cell, bool | int | float):
        try:
            return float(cell)
        except OverflowError:
            return float("inf")
    if not is_text or not isinstance(cell, str):
        return _NOT_A_NUMBER
    cell = cell.strip()
    if _NUMBER.fullmatch(cell):
        return float(cell)
    word = cell.lower()
    return float("nan") if word in _MISSING else _BOOLEANS.get(word, _NOT_A_NUMBER)


def _fault(text: str) -> str:
    """Say what is wrong with the text of a cell; empty for nothing."""
    if len(text) > MAX_CHARACTERS:
        return f"the text has {len(text)} characters; {MAX_CHARACTERS} are accepted"
    if "\0" in text:
        return "the text has a NUL character; leave it out"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "the text has half of a surrogate pair, which is no character"
    return ""
