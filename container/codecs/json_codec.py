"""`application/json`: a body of one record or many, and predictions.

    {"instances": [record, …]}, [record, …]      see `json_records` for what a record is
    record                                       an object, or one row `[1, 2, null]`

Predictions are `{"predictions": [{"score": …}, …]}` (C-098).
"""

from typing import Any

import numpy as np
import orjson

from container.codecs import number_rows, number_text
from container.codecs.base import Batch, Columns, Floats, Selected, dense_batch
from container.codecs.json_records import (
    ARRAY,
    OBJECT,
    REPEATED_NAME,
    JsonRecords,
    kind_of,
    names,
    parse,
)
from container.errors import MalformedPayloadError


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: with the path of the fault, e.g. `instances[3].features[7]`, or with
            line and column where the text is not JSON.
    """
    instances, prefix = _instances(parse(body))
    # Each record has a bracket, and so has the array of them all: no further array, so none nested.
    is_flat = body.count(b"[") == len(instances) + bool(prefix)
    if is_flat and len(instances) and isinstance(instances[0], ARRAY) and prefix:
        rows = number_rows.of_array(instances)
        is_as_wide = rows is not None and columns.width in (None, rows.shape[1])
        if rows is not None and is_as_wide and not np.isinf(rows).any():
            return dense_batch(rows, columns)
        is_flat = False  # what stopped it would stop the quick way of reading a single row too

    def locate(record: int, path: str, problem: str) -> MalformedPayloadError:
        place = (prefix.format(record) + path).lstrip(".")
        return MalformedPayloadError(f"{place}: {problem}" if place else problem)

    records = JsonRecords(locate, columns)
    for instance in instances:
        records.add(instance, is_flat=is_flat)
    return records.batch()


def _instances(document: Any) -> tuple[Any, str]:
    """The records and the pattern of their paths; without one, the document is the only record."""
    pattern = "[{}]"
    if isinstance(document, OBJECT):
        if (present := names(document)) is None:
            raise MalformedPayloadError(REPEATED_NAME)
        if "instances" not in present:
            return [document], ""
        document, pattern = document["instances"], "instances[{}]"
        if not isinstance(document, ARRAY):
            raise MalformedPayloadError(f"instances: expected an array, not {kind_of(document)}")
    elif not isinstance(document, ARRAY):
        raise MalformedPayloadError(f"expected an array or an object, not {kind_of(document)}")
    elif len(document) and not isinstance(document[0], ARRAY + OBJECT):
        return [document], ""
    return document, pattern


def encode(values: Floats) -> bytes:
    """Write one object a record, in order; several outputs make `score` a list.

    A value that JSON cannot say (NaN, infinity) is written as null.
    """
    return b'{"predictions":[' + score_objects(values, b",") + b"]}"


def encode_selected(selected: Selected) -> bytes:
    """Write one object a record with the selected keys."""
    return b'{"predictions":[' + b",".join(selected_objects(selected)) + b"]}"


def score_objects(values: Floats, between: bytes) -> bytes:
    """`{"score":…}` for every record, with `between` between two of them."""
    if not len(values):
        return b""
    text = number_text.as_json(values)
    between = b"}" + between + b'{"score":'
    if values.ndim == 1:
        listed = text[1:-1].replace(b",", between)
    else:
        listed = text[1:-1].replace(b"],[", b"]" + between + b"[")
    return b'{"score":' + listed + b"}"


def selected_objects(selected: Selected) -> list[bytes]:
    """One object for every record, its members in the order in which they were asked for."""
    members = []
    for key in selected.keys:
        name = orjson.dumps(key) + b":"
        members.append([name + cell for cell in number_text.json_cells(selected, key)])
    return [b"{" + b",".join(record) + b"}" for record in zip(*members, strict=True)]
