"""`text/libsvm`: `label[:weight] [qid:N] column:value …`, one record a line.

Columns count from 0 or from 1, as `Columns.libsvm_base` says; batches always count from 0. A
training job reads columns as written (base 0) and shifts them after the last record. With base None
a body counts from 1 unless one of its columns is 0. AWS's image reads requests so; the score of a
record then depends on the records beside it.

`column:` without a value is a missing value, like an empty cell of CSV (C-102). `qid:N` is the
query id of a record: the list that it belongs to in ranking. In requests it has no effect.

Lines end in LF or CRLF. A `#` begins a comment; a line with a comment only is not a record, and has
no prediction. A blank line is refused, as in CSV.
"""

import re
from array import array

import numpy as np
from numpy.typing import NDArray

from container import content_types
from container.codecs import diagnosis, text_lines
from container.codecs.json import number_rows
from container.codecs.libsvm import libsvm_bulk
from container.codecs.libsvm.libsvm_bulk import Lines
from container.codecs.records import FLOAT32_OVERFLOW, MAX_COLUMNS, Batch, Columns, SparseRows
from container.errors import MalformedPayloadError, counted

# Possessive: giving digits back one by one would take seconds on a token of thousands of them.
_FLOAT = r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?"
_LABEL = re.compile(rf"({_FLOAT})(?::({_FLOAT}))?", re.ASCII)
_CELL = re.compile(rf"(\d++):({_FLOAT}|[nN][aA][nN]|)", re.ASCII)
_QUERY_ID = re.compile(r"qid:(\d{1,18})", re.ASCII)
_NONE = np.empty(0, dtype=np.float32)
_TOO_LARGE = "the number does not fit a 32-bit float"
_MAX_COLUMN_DIGITS = 10
_FEW_BYTES = 2**10  # up to which reading line by line is quicker


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records; a label is required if `columns` has one, and ignored otherwise.

    `n_features` of the batch is the largest column seen plus 1, counted from 0. A record's weight
    follows its label after a colon and is 1 where there is none, so `columns.has_weight`, which
    speaks of CSV, changes nothing.

    Raises:
        MalformedPayloadError: with the line and the token (as column) that cannot be read or is
            outside the expected columns.
    """
    rows = _Rows(columns)
    try:
        for piece in text_lines.pieces(body):
            rows.add(piece)
        return rows.batch()
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.LIBSVM) from None


class _Rows:
    """Collector of the records of one body, piece by piece."""

    def __init__(self, columns: Columns) -> None:
        self._label_required = columns.label_size > 0
        self._expected = columns
        self._allowed = _allowed(columns)
        self._n_lines = 0
        self._has_query_ids: bool | None = None  # as the first record
        # Growing memory of arrays: no copy when they are complete.
        self._lengths = bytearray(8)  # begins with a 0, so that the sums are offsets
        self._columns = bytearray()
        self._values = bytearray()
        self._labels = bytearray()
        self._weights = bytearray()
        self._query_ids = bytearray()

    def add(self, text: bytes) -> None:
        lines = None
        if len(text) > _FEW_BYTES:
            lines = libsvm_bulk.read(
                text, label_required=self._label_required, allowed=self._allowed
            )
        if lines is None or self._has_query_ids not in (None, len(lines.query_ids) > 0):
            lines = self._line_by_line(text)
        if len(lines.lengths):
            self._has_query_ids = len(lines.query_ids) > 0
        self._n_lines += text.count(b"\n") + 1
        self._lengths += lines.lengths.data
        self._columns += lines.columns.data
        self._values += lines.values.data
        self._labels += lines.labels.data
        self._weights += lines.weights.data
        self._query_ids += lines.query_ids.data

    def batch(self) -> Batch:
        offsets = np.frombuffer(self._lengths, dtype=np.int64)
        if len(offsets) == 1:
            raise MalformedPayloadError("there are no records")
        columns = np.frombuffer(self._columns, dtype=np.int32)
        offsets.cumsum(out=offsets)  # in place: a line may have two bytes, and its offset has eight
        base = self._expected.libsvm_base
        if base is None:
            base = _base_of(columns, offsets, self._expected.n_features)
        if base:
            columns -= base
        features = SparseRows(
            offsets=offsets,
            columns=columns,
            values=np.frombuffer(self._values, dtype=np.float32),
            n_columns=int(columns.max(initial=-1)) + 1,
        )
        if not self._label_required:
            return Batch(features)
        return Batch(
            features,
            labels=np.frombuffer(self._labels, dtype=np.float32),
            weights=np.frombuffer(self._weights, dtype=np.float32),
            query_ids=np.frombuffer(self._query_ids, dtype=np.int64) if self._query_ids else None,
        )

    def _line_by_line(self, text: bytes) -> Lines:
        """Read line by line: exact, and finds the first fault."""
        reader = _LineReader(
            self._label_required, self._allowed, self._expected, self._has_query_ids
        )
        lines = text.replace(b"\r\n", b"\n").decode("latin-1").split("\n")
        for number, line in enumerate(lines, start=self._n_lines + 1):
            try:
                reader.add(line)
            except _Fault as fault:
                raise MalformedPayloadError(
                    fault.problem, line=number, column=fault.token
                ) from None
        return reader.lines()


def _allowed(columns: Columns) -> range:
    """Return the accepted column numbers of a body; without a known base, those of both."""
    first = 1 if columns.libsvm_base == 1 else 0
    if columns.n_features is None:
        return range(first, MAX_COLUMNS)
    return range(first, columns.n_features + (columns.libsvm_base != 0))


def _base_of(columns: NDArray[np.int32], offsets: NDArray[np.int64], n_features: int | None) -> int:
    """Return the base, 0 or 1, of a body for a model without one.

    Args:
        columns: Column numbers as written.
        offsets: Start of each record in `columns`, `[n_records + 1]`.
        n_features: Number of features of the model, if known.
    Raises:
        MalformedPayloadError: one column is 0 and another one is beyond the features.
    """
    if not len(columns) or columns.min() > 0:
        return 1
    if n_features is None:
        return 0
    is_beyond = columns >= n_features
    if is_beyond.any():
        record = int(np.searchsorted(offsets, is_beyond.argmax(), side="right"))
        raise MalformedPayloadError(
            f"the model takes {counted(n_features, 'feature')} and the record has column "
            f"{n_features}, which is one too many: another column of the request is 0, so all "
            "count from 0; count from 0 or from 1 throughout",
            record=record,
        )
    return 0


def _column_problem(expected: Columns, allowed: range) -> str:
    """Describe a column that is not accepted, with the accepted ones and the remedy."""
    n_features, base = expected.n_features, expected.libsvm_base
    problem = f"the feature's column is not in {allowed.start} to {allowed.stop - 1}"
    if n_features is None:
        return problem
    problem += f": the model takes {counted(n_features, 'feature')}"
    if base is None:
        return (
            f"{problem}, columns 1 to {n_features}, or 0 to {n_features - 1} where a column of the "
            "request is 0; leave out all others"
        )
    other, cure = (1, "subtract 1 from each") if base == 0 else (0, "add 1 to each")
    return (
        f"{problem}, and libsvm columns count from {base} for it; if yours count from {other}, "
        f"{cure}; leave out columns that it does not take"
    )


class _Fault(Exception):
    """A line at fault: the problem, and the number of the token."""

    def __init__(self, problem: str, token: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.token = token


class _LineReader:
    def __init__(
        self,
        label_required: bool,
        allowed: range,
        expected: Columns,
        has_query_ids: bool | None,  # None before the first record
    ) -> None:
        self._label_required = label_required
        self._allowed = allowed
        self._expected = expected
        self._has_query_ids = has_query_ids
        self._lengths = array("q")
        self._columns = array("i")
        self._values = array("d")
        self._labels = array("d")
        self._weights = array("d")
        self._query_ids = array("q")

    def add(self, line: str) -> None:
        record, comment, _ = line.partition("#")
        if "\r" in record:
            raise _Fault("the line has a carriage return within it; end lines in LF or CRLF")
        tokens = record.split()
        if not tokens and comment:
            return
        if not tokens:
            raise _Fault("the line is blank; leave blank lines out")
        start = self._add_label(tokens[0], is_before_id=any(map(_is_id, tokens[1:2])))
        start += self._add_query_id(tokens[start] if start < len(tokens) else "", start + 1)
        self._add_cells(tokens[start:], start + 1)
        self._lengths.append(len(tokens) - start)

    def _add_label(self, token: str, *, is_before_id: bool) -> int:
        """Read the label, and return the number of its tokens: 1 or 0."""
        label = _LABEL.fullmatch(token)
        if self._label_required:
            if label is None:
                raise _Fault(_not_text(token) or "the label is not a number", 1)
            self._labels.append(_fitting(label[1], 1))
            self._weights.append(_fitting(label[2] or "1", 1))
            return 1
        # `3:1` may be a label with a weight or a cell: it is one where labels are required, or
        # where a query id follows.
        if label is None or (label[2] is not None and not is_before_id):
            return 0
        _fitting(label[1], 1)
        _fitting(label[2] or "1", 1)
        return 1

    def _add_query_id(self, token: str, position: int) -> int:
        """Read the query id, and return the number of its tokens: 1 or 0."""
        if not self._label_required:
            return int(_QUERY_ID.fullmatch(token) is not None)
        is_there = _is_id(token)
        if is_there and (found := _QUERY_ID.fullmatch(token)):
            self._query_ids.append(int(found[1]))
        elif is_there:
            raise _Fault(
                "the query id must be a whole number of at most 18 digits: qid:N", position
            )
        if self._has_query_ids is None:
            self._has_query_ids = is_there
        if is_there is not self._has_query_ids:
            others = "the records before have one" if self._has_query_ids else "those before do not"
            raise _Fault(
                f"the record has {'a' if is_there else 'no'} query id and {others}; write qid:N "
                "after each label of a channel, or after none"
            )
        return int(is_there)

    def _add_cells(self, tokens: list[str], first: int) -> None:
        last, read = -1, _CELL.fullmatch
        start, stop = self._allowed.start, self._allowed.stop
        for position, token in enumerate(tokens, start=first):
            cell = read(token)
            if cell is None:
                raise _Fault(_cell_problem(token, position, self._allowed), position)
            digits, number = cell.groups()
            column = int(digits) if len(digits) <= _MAX_COLUMN_DIGITS else stop
            value = float(number or "nan")
            if not start <= column < stop:
                raise _Fault(_column_problem(self._expected, self._allowed), position)
            if column <= last:
                raise _Fault("columns must increase along the line", position)
            if abs(value) >= FLOAT32_OVERFLOW:
                raise _Fault(_TOO_LARGE, position)
            last = column
            self._columns.append(column)
            self._values.append(value)

    def lines(self) -> Lines:
        return Lines(
            lengths=np.frombuffer(self._lengths, dtype=np.int64),
            columns=np.frombuffer(self._columns, dtype=np.int32),
            values=number_rows.as_float32(np.frombuffer(self._values)),
            labels=np.array(self._labels, dtype=np.float32) if self._label_required else _NONE,
            weights=np.array(self._weights, dtype=np.float32) if self._label_required else _NONE,
            query_ids=np.frombuffer(self._query_ids, dtype=np.int64),
        )


def _cell_problem(token: str, position: int, allowed: range) -> str:
    """Describe a token that is not a cell, with the accepted form."""
    if problem := _not_text(token):
        return problem
    if _is_id(token):
        return (
            f"token {position} is not a query id right after the label; write label qid:N "
            "column:value …, N a whole number of at most 18 digits"
        )
    index, colon, _ = token.partition(":")
    if not colon:
        problem = f"token {position} has no colon"
    elif not (index.isascii() and index.isdigit()):
        problem = f"the column of token {position} is negative or not a whole number"
    elif len(index) > _MAX_COLUMN_DIGITS:
        problem = f"the value of token {position} is not a finite number"
    else:
        problem = f"the value of token {position}, for column {index}, is not a finite number"
    return (
        f"{problem}; write column:value, with a column in {allowed.start} to {allowed.stop - 1} "
        "and a value that is a finite number, nan or empty"
    )


def _is_id(token: str) -> bool:
    return token.startswith("qid:")


def _fitting(token: str, position: int) -> float:
    number = float(token)
    if abs(number) >= FLOAT32_OVERFLOW:
        raise _Fault(_TOO_LARGE, position)
    return number


def _not_text(token: str) -> str:
    try:
        token.encode("latin-1").decode()
    except UnicodeDecodeError:
        return "the text is not UTF-8"
    return ""
