"""Records in JSON: the instances of a request, and the lines of JSON Lines.

    [1, 2, null]                                     a row; null is a missing value
    {"features": [1, 2, null]}
    {"features": {"values": [1, 2, null]}}
    {"features": {"values": [1, 2], "keys": [0, 7], "shape": [9]}}   a cell without a key is missing
    {"data": [1, 2, null]}, {"data": {"features": …}}    as above

`true` and `false` are 1 and 0, and `NaN`, which Python writes, is read as null.

Other members are ignored (`configuration`, for one). Two members of the same name are refused,
because readers disagree on which one counts.

Source: AWS SageMaker developer guide, "Common Data Formats for Inference".
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from container.codecs.json import json_diagnosis, number_rows
from container.codecs.json.json_diagnosis import kind_of
from container.codecs.json.json_text import ARRAY, OBJECT, REPEATED_NAME
from container.codecs.records import (
    MAX_COLUMNS,
    Batch,
    Columns,
    Floats,
    dense_batch,
    sparse_batch,
    width_hint,
)
from container.codecs.sparse import SparseRecords
from container.errors import MalformedPayloadError, counted

Locate = Callable[[int, str, str], MalformedPayloadError]
"""Maker of an error from a record's index, the path below it (`.features[7]`), and a problem."""

_ROUNDED_BYTES = 2**20
_TOO_LARGE = "the number is infinite or does not fit a 32-bit float"
_WHOLE_TYPES: frozenset[type] = frozenset({float, int, type(None)})
_CELL_TYPES = _WHOLE_TYPES | {bool}


def names(value: Any) -> list[str] | None:
    """Return the names of an object's members, or None if two are the same."""
    found = list(value)
    return None if len(found) > 1 and len(set(found)) < len(found) else found


class _Fault(Exception):
    """A value at fault: its path below the record, and the problem."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


class JsonRecords:
    """Collector of the records of one body."""

    def __init__(self, locate: Locate, columns: Columns) -> None:
        self._locate = locate
        self._columns = columns
        # Growing memory of arrays: no copy when they are complete.
        self._rows = bytearray()  # of float64, the newest rows
        self._rounded = bytearray()  # of float32, those before
        self._width = columns.width or 0  # as expected, or as the first record has it
        self._paths: list[str] = []  # where below its record each row was found
        self._sparse = SparseRecords(columns)
        # False from the first null on: with nulls the attempt without lists mostly fails.
        self._is_plain = True

    def add(self, instance: Any, *, is_flat: bool) -> None:
        """Add a record.

        Args:
            instance: A value that `json_text.parse` returned.
            is_flat: No array of the instance holds another one; such arrays are faster to read.
        Raises:
            MalformedPayloadError: it is not a record, or unlike the records before it.
        """
        try:
            self._add(instance, is_flat)
        except _Fault as fault:
            record = len(self._paths) + len(self._sparse)
            self._round()  # raises for an infinite number of an earlier record: the first fault
            raise self._locate(record, fault.path, fault.problem) from None

    def add_rows(self, rows: Floats) -> bool:
        """Add finite records `[n_rows, n_columns]`; False if earlier ones have another form."""
        if len(self._sparse) or self._width not in (0, rows.shape[1]):
            return False
        self._width = rows.shape[1]
        self._round()
        self._rounded += rows.data
        self._paths += [""] * len(rows)
        return True

    def batch(self) -> Batch:
        """Return all records; raise `MalformedPayloadError` if there are none."""
        if len(self._sparse):
            rows = self._sparse.rows(lambda record, fault: self._locate(record, "", fault))
            return sparse_batch(rows, self._columns)
        if not self._paths:
            raise MalformedPayloadError("there are no records")
        self._round()
        table = np.frombuffer(self._rounded, dtype=np.float32).reshape(-1, self._width)
        return dense_batch(table, self._columns)

    def _round(self) -> None:
        """Round the rows collected in 64 bits to 32."""
        if not self._rows:
            return
        rows = number_rows.as_float32(np.frombuffer(self._rows)).reshape(-1, self._width)
        infinite = np.isinf(rows)
        if infinite.any():
            row, column = (int(index) for index in np.argwhere(infinite)[0])
            record = len(self._paths) - len(rows) + row
            path = f"{self._paths[record]}[{column}]"
            raise self._locate(record, path, _TOO_LARGE)
        self._rounded += rows.data
        self._rows.clear()

    def _add(self, instance: Any, is_flat: bool) -> None:
        values, path = _features(instance)
        if isinstance(values, ARRAY):
            self._add_row(self._numbers(values, path, is_flat), path)
            return
        tensor, present = values, _names(values, path)
        if "values" not in present:
            raise _Fault(path, "expected a member 'values'")
        row = self._numbers(tensor["values"], f"{path}.values", is_flat)
        if len(present) == 1:
            self._add_row(row, f"{path}.values")
            return
        keys = _whole_numbers(tensor["keys"], f"{path}.keys") if "keys" in present else _NONE
        shape = _whole_numbers(tensor["shape"], f"{path}.shape") if "shape" in present else _NONE
        if len(shape) > 1:
            raise _Fault(
                f"{path}.shape", f"the shape has {len(shape)} dimensions; give the width only"
            )
        n_values, width = len(row) // 8, int(shape[0]) if len(shape) else None
        if len(keys) or (width and not n_values):
            self._add_cells(keys, row, width, path)
        elif width in (None, n_values):
            self._add_row(row, f"{path}.values")
        else:
            raise _Fault(
                path, f"the shape is {width} and the record has {counted(n_values, 'value')}"
            )

    def _add_row(self, row: bytes, path: str) -> None:
        if len(self._sparse):
            raise _Fault(path, "the record has no keys where the first has some")
        if not row:
            raise _Fault(path, "the record is empty")
        n_values = len(row) // 8
        self._width = self._width or n_values
        if n_values != self._width:
            others = self._columns.expectation or f"the first has {self._width}"
            hint = width_hint(n_values, self._columns)
            hint = f"; {hint}" if hint else ""
            raise _Fault(path, f"the record has {counted(n_values, 'value')} where {others}{hint}")
        self._rows += row
        self._paths.append(path)
        if len(self._rows) > _ROUNDED_BYTES:
            self._round()

    def _add_cells(
        self, keys: NDArray[np.float64], row: bytes, width: int | None, path: str
    ) -> None:
        if self._paths:
            raise _Fault(path, "the record has keys where the first has none")
        try:
            self._sparse.add(keys, number_rows.as_float32(np.frombuffer(row)), width)
        except ValueError as error:
            raise _Fault(path, str(error)) from None

    def _numbers(self, values: Any, path: str, is_flat: bool) -> bytes:
        """Return the values of a row, as the bytes of float64."""
        # The buffer is flat: it would not show arrays within this one.
        if is_flat and self._is_plain and isinstance(values, simdjson.Array):
            try:
                return bytes(values.as_buffer(of_type="d"))
            except TypeError:
                self._is_plain = False
        return _cells(values, path).tobytes()


_NONE = np.empty(0)


def _features(instance: Any) -> tuple[Any, str]:
    """Return the array of a record's values, or the object that holds them, and its path."""
    if isinstance(instance, ARRAY):
        return instance, ""
    present = _names(instance, "")
    if "features" in present:
        return instance["features"], ".features"
    if "data" not in present:
        problem = "expected a member 'features', or 'data' that has it"
        raise _Fault("", problem + json_diagnosis.other_members(instance, present))
    data = instance["data"]
    if isinstance(data, ARRAY):
        return data, ".data"
    if "features" not in _names(data, ".data"):
        raise _Fault(".data", "expected a member 'features'")
    return data["features"], ".data.features"


def _names(value: Any, path: str) -> list[str]:
    # To ask for a member that is not there costs simdjson 3 µs, to list them a twentieth of that.
    if not isinstance(value, OBJECT):
        raise _Fault(path, f"expected an array or an object, not {kind_of(value)}")
    found = names(value)
    if found is None:
        raise _Fault(path, REPEATED_NAME)
    return found


def _cells(values: Any, path: str, types: frozenset[type] = _CELL_TYPES) -> NDArray[np.float64]:
    if not isinstance(values, ARRAY):
        raise _Fault(path, f"expected an array, not {kind_of(values)}")
    cells = values if isinstance(values, list) else values.as_list()
    if not types.issuperset(map(type, cells)):
        index, cell = next((i, c) for i, c in enumerate(cells) if type(c) not in types)
        problem = "expected a number or null (a missing value), not "
        raise _Fault(f"{path}[{index}]", problem + json_diagnosis.of_cell(cell))
    return np.array(cells, dtype=np.float64)


def _whole_numbers(values: Any, path: str) -> NDArray[np.float64]:
    numbers = _cells(values, path, _WHOLE_TYPES)
    is_whole = (numbers >= 0) & (numbers <= MAX_COLUMNS) & (numbers % 1 == 0)
    if not is_whole.all():
        index = int(is_whole.argmin())
        raise _Fault(f"{path}[{index}]", f"expected a whole number in 0 to {MAX_COLUMNS}")
    return numbers
