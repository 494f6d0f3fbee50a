"""`text/libsvm`: `label[:weight] column:value …`, one record a line.

Columns count from 0, as in XGBoost's own reader, in every request and every file. AWS's image
decides per payload whether they count from 0 or 1, so that there a record's prediction depends on
the records beside it (0.690 or 0.847 for the same row); here it never does. A file that counts from
1 just leaves column 0 unused, in training and in serving alike.
"""

import re

import numpy as np

from container.codecs.base import Batch, Columns, SparseRows
from container.errors import MalformedPayloadError

_FLOAT = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LABEL = re.compile(rf"({_FLOAT})(?::({_FLOAT}))?", re.ASCII)
_CELL = re.compile(rf"(\d{{1,10}}):({_FLOAT}|nan)", re.ASCII)
_MAX_COLUMN = 2**31 - 2
_MAX_VALUE = float(np.finfo(np.float32).max)


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records; a label is required where `columns` has one and optional elsewhere.

    `n_features` is the largest column seen plus 1. A record's weight follows its label after a
    colon and is 1 where there is none, so `columns.has_weight`, which speaks of CSV, changes
    nothing.

    Raises:
        MalformedPayloadError: with the line and the token (as column) that cannot be read.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedPayloadError("the text is not UTF-8") from error
    rows = _Rows(label_required=columns.label_size > 0)
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), start=1):
        rows.add(number, line.partition("#")[0].split())
    return rows.batch()


class _Rows:
    """The records of one body, collected line by line."""

    def __init__(self, *, label_required: bool) -> None:
        self._label_required = label_required
        self._offsets = [0]
        self._columns: list[int] = []
        self._values: list[float] = []
        self._labels: list[float] = []
        self._weights: list[float] = []

    def add(self, line: int, tokens: list[str]) -> None:
        if not tokens:
            raise MalformedPayloadError("the line is blank; leave blank lines out", line=line)
        start = 0
        label = _LABEL.fullmatch(tokens[0])
        # `3:1` may be a label with a weight or a cell: only where labels are required is it one.
        if label and (self._label_required or label[2] is None):
            self._labels.append(float(label[1]))
            self._weights.append(float(label[2] or 1))
            start = 1
        elif self._label_required:
            raise MalformedPayloadError("the label is not a number", line=line, column=1)
        self._add_cells(line, start, tokens)
        self._offsets.append(len(self._columns))

    def _add_cells(self, line: int, start: int, tokens: list[str]) -> None:
        last = -1
        for position, token in enumerate(tokens[start:], start=start + 1):
            cell = _CELL.fullmatch(token)
            if cell is None:
                raise MalformedPayloadError("expected column:value", line=line, column=position)
            column, value = int(cell[1]), float(cell[2])
            if column > _MAX_COLUMN or abs(value) > _MAX_VALUE:
                raise MalformedPayloadError(
                    "the column or its value is out of range", line=line, column=position
                )
            if column <= last:
                raise MalformedPayloadError(
                    "columns must increase along the line", line=line, column=position
                )
            last = column
            self._columns.append(column)
            self._values.append(value)

    def batch(self) -> Batch:
        n_rows = len(self._offsets) - 1
        features = SparseRows(
            offsets=np.array(self._offsets, dtype=np.int64),
            columns=np.array(self._columns, dtype=np.int32),
            values=np.array(self._values, dtype=np.float32),
            n_columns=max(self._columns, default=-1) + 1,
        )
        labelled = len(self._labels) == n_rows
        weighted = labelled and self._label_required
        return Batch(
            features=features,
            labels=np.array(self._labels, dtype=np.float32) if labelled else None,
            weights=np.array(self._weights, dtype=np.float32) if weighted else None,
        )
