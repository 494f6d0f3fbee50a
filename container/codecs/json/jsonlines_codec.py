"""`application/jsonlines`: one record a line, and one prediction a line.

A line is a record as `json_records` has them: an object or a row. Lines end in LF or CRLF, the last
one with or without. One bad line fails the body, with its number; so does a blank line among the
records: the number of predictions would no longer be the number of lines (C-072).
"""

from collections.abc import Iterator

from container import content_types
from container.codecs import diagnosis, text_lines
from container.codecs.json.json_codec import named_objects, score_objects
from container.codecs.json.json_records import JsonRecords
from container.codecs.json.json_text import parse
from container.codecs.records import Batch, Columns, Floats, NamedOutputs
from container.errors import MalformedPayloadError


def decode(body: bytes, columns: Columns) -> Batch:
    """Read records whose first columns are as `columns` says.

    Raises:
        MalformedPayloadError: with the line, and the path of the fault in it, e.g. `features[7]`.
    """
    try:
        return _decode(body, columns)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.JSON_LINES) from None


def _decode(body: bytes, columns: Columns) -> Batch:
    records = JsonRecords(_locate, columns)
    for number, line in enumerate(_lines(body), start=1):
        if not line.strip():
            raise MalformedPayloadError("the line is blank; leave blank lines out", line=number)
        try:
            instance = parse(line)
        except MalformedPayloadError as error:
            raise MalformedPayloadError(error.problem, line=number, column=error.column) from error
        records.add(instance, is_flat=line.count(b"[") == 1)
    return records.batch()


def encode(values: Floats) -> bytes:
    """Write `{"score": …}` for every record; NaN and infinity, unknown to JSON, become null."""
    return score_objects(values, b"\n") + b"\n"


def encode_named(outputs: NamedOutputs) -> bytes:
    """Write one object a record, with a member for each output."""
    return b"".join(line + b"\n" for line in named_objects(outputs))


def _lines(body: bytes) -> Iterator[bytes]:
    for piece in text_lines.pieces(body):
        yield from piece.split(b"\n")


def _locate(record: int, path: str, problem: str) -> MalformedPayloadError:
    path = path.lstrip(".")
    return MalformedPayloadError(f"{path}: {problem}" if path else problem, line=record + 1)
