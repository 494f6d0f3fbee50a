"""`application/json`: a body of one record or many, and predictions.

    {"instances": [record, …]}, [record, …]      see `json_records` for what a record is
    record                                       an object, or one row `[1, 2, null]`

Predictions are `{"predictions": [{"score": …}, …]}` (C-098).
"""

import re
from typing import Any

import numpy as np
import orjson

from container import content_types
from container.codecs import diagnosis, number_text, text_lines
from container.codecs.json import number_rows
from container.codecs.json.json_diagnosis import kind_of
from container.codecs.json.json_records import JsonRecords, Locate, names
from container.codecs.json.json_text import ARRAY, OBJECT, REPEATED_NAME, parse
from container.codecs.records import Batch, Columns, Floats, NamedOutputs, dense_batch
from container.errors import MalformedPayloadError

# Up to this many pieces a body is parsed at once: a tenth faster, in memory that the parser of a
# thread keeps anyway.
_PIECES_AT_ONCE = 4
# An array of arrays or objects, alone or as the only member of an object; and where it can be cut.
_OPENING = re.compile(rb'\s*+(\{\s*+"instances"\s*+:\s*+)?\[(?=\s*+[\[{])')
_CLOSING = (re.compile(rb"\]\s*+"), re.compile(rb"\]\s*+\}\s*+"))
_BETWEEN = re.compile(rb"[\]}]\s*+,(?=\s*+[\[{])")


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: with the path of the fault, e.g. `instances[3].features[7]`, or with
            line and column where the text is not JSON.
    """
    try:
        return _decode(body.removeprefix(text_lines.BOM), columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.JSON) from None


def _decode(body: bytes, columns: Columns) -> Batch:
    if len(body) > _PIECES_AT_ONCE * text_lines.PIECE_BYTES:
        batch = _in_pieces(body, columns)
        if batch is not None:
            return batch
    instances, prefix = _instances(parse(body))
    # Each record has a bracket, and so has the array of them all: no further array, so none nested.
    is_flat = body.count(b"[") == len(instances) + bool(prefix)
    if is_flat and prefix and (rows := _rows(instances, columns)) is not None:
        return dense_batch(rows, columns)
    records = JsonRecords(_locator(prefix), columns)
    _add_each(records, instances, is_flat=is_flat, is_array=bool(prefix))
    return records.batch()


def _in_pieces(body: bytes, columns: Columns) -> Batch | None:
    """Read a long array of records in pieces: parsed at once it takes 6 to 19 times its size.

    If `[a]` and `[b]` are arrays, `[a,b]` is the array of both. So a piece that is not JSON by
    itself was cut within a record, or the body is not JSON.

    Returns:
        None if the text is not an array of records, or cannot be cut between records.
    """
    opening = _OPENING.match(body)
    end = body.rfind(b"]")
    if opening is None or not _CLOSING[bool(opening[1])].fullmatch(body, end):
        return None
    records = JsonRecords(_locator("instances[{}]" if opening[1] else "[{}]"), columns)
    start = opening.end()
    while start < end:
        cut = _BETWEEN.search(body, start + text_lines.PIECE_BYTES, end)
        stop = cut.start() + 1 if cut else end
        if not _add_piece(records, b"[" + body[start:stop] + b"]", columns):
            return None
        start = cut.end() if cut else end
    return records.batch()


def _add_piece(records: JsonRecords, text: bytes, columns: Columns) -> bool:
    """Add the records of an array; return False if the text is not JSON."""
    try:
        instances = parse(text)
    except MalformedPayloadError:
        return False
    is_flat = text.count(b"[") == len(instances) + 1
    rows = _rows(instances, columns) if is_flat else None
    if rows is None or not records.add_rows(rows):
        _add_each(records, instances, is_flat=is_flat, is_array=True)
    return True


def _rows(instances: Any, columns: Columns) -> Floats | None:
    """Read records of finite numbers only, in rows of the expected width; None for others."""
    if not len(instances) or not isinstance(instances[0], ARRAY):
        return None
    rows = number_rows.of_array(instances)
    if rows is None or columns.width not in (None, rows.shape[1]) or np.isinf(rows).any():
        return None
    return rows


def _add_each(records: JsonRecords, instances: Any, *, is_flat: bool, is_array: bool) -> None:
    # A value that keeps the rows from being read in bulk would stop the fast path for one row, too.
    is_flat = is_flat and not (is_array and len(instances) and isinstance(instances[0], ARRAY))
    for instance in instances:
        records.add(instance, is_flat=is_flat)


def _locator(prefix: str) -> Locate:
    def locate(record: int, path: str, problem: str) -> MalformedPayloadError:
        full = (prefix.format(record) + path).lstrip(".")
        return MalformedPayloadError(f"{full}: {problem}" if full else problem)

    return locate


def _instances(document: Any) -> tuple[Any, str]:
    """Return the records and the pattern of their paths; empty if the document is one record."""
    pattern = "[{}]"
    if isinstance(document, OBJECT):
        if (present := names(document)) is None:
            raise MalformedPayloadError(REPEATED_NAME)
        if "instances" not in present:
            return [document], ""
        document, pattern = document["instances"], "instances[{}]"
        if not isinstance(document, ARRAY):
            problem = f"expected an array of records, not {kind_of(document)}"
            raise MalformedPayloadError(f"instances: {problem}")
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


def encode_named(outputs: NamedOutputs) -> bytes:
    """Write one object a record, with a member for each output."""
    return b'{"predictions":[' + b",".join(named_objects(outputs)) + b"]}"


def score_objects(values: Floats, between: bytes) -> bytes:
    """Write `{"score":…}` for every record, joined by `between`."""
    if not len(values):
        return b""
    text = number_text.as_json(values)
    between = b"}" + between + b'{"score":'
    if values.ndim == 1:
        listed = text[1:-1].replace(b",", between)
    else:
        listed = text[1:-1].replace(b"],[", b"]" + between + b"[")
    return b'{"score":' + listed + b"}"


def named_objects(outputs: NamedOutputs) -> list[bytes]:
    """Write one object for every record, its members in the order of the names."""
    members = []
    for name, values in outputs.items():
        member = orjson.dumps(name) + b":"
        members.append([member + cell for cell in number_text.json_cells(values)])
    return [b"{" + b",".join(record) + b"}" for record in zip(*members, strict=True)]
