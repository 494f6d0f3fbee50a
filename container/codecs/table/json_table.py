"""`application/json` and `application/jsonlines` as a table.

    {"instances": [record, …]}, [record, …], record      or, in JSON Lines, one record a line
    record      ["Berlin", 70.5, null], {"city": "Berlin", "area": 70.5, "floor": null},
                {"features": record}, {"data": record}

Two members of the same name are refused, because readers disagree on which one counts.
"""

from collections.abc import Sequence
from typing import Any

from container import content_types
from container.codecs import column_names, diagnosis, text_lines
from container.codecs.json import json_text
from container.codecs.json.json_diagnosis import kind_of
from container.codecs.table.cells import Cells
from container.errors import MalformedPayloadError, counted

_WRAPPERS = ("features", "data")


def read(body: bytes) -> Cells:
    """Read all records of a JSON text.

    Raises:
        MalformedPayloadError: with the number of the record, or with the line and column where the
            text is not JSON.
    """
    try:
        document = json_text.load_strictly(body)
        return _cells(_records(document), None)
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.JSON) from None


def read_lines(body: bytes) -> Cells:
    """Read all records of JSON Lines; raises as `read` does, with the line."""
    try:
        records = []
        for number, line in enumerate(text_lines.trimmed(body).splitlines(), start=1):
            try:
                records.append(json_text.load_strictly(line))
            except MalformedPayloadError as error:
                column = error.column
                raise MalformedPayloadError(error.problem, line=number, column=column) from None
        return _cells(records, range(1, len(records) + 1))
    except MalformedPayloadError as error:
        raise diagnosis.explained(error, body, content_types.JSON_LINES) from None


def _records(document: Any) -> list[Any]:
    if isinstance(document, dict) and "instances" in document:
        document = document["instances"]
        if not isinstance(document, list):
            problem = f"instances: expected an array of records, not {kind_of(document)}"
            raise MalformedPayloadError(problem)
        return document
    if isinstance(document, list) and document and isinstance(document[0], list | dict):
        return document
    if isinstance(document, list | dict):
        return [document]
    raise MalformedPayloadError(f"expected an array or an object, not {kind_of(document)}")


def _cells(records: Sequence[Any], lines: Sequence[int] | None) -> Cells:
    if not records:
        raise MalformedPayloadError("there are no records")
    names: tuple[str, ...] | None = None
    rows: list[Any] = []
    for index, record in enumerate(records):
        place = {"record": index + 1} if lines is None else {"line": lines[index]}
        inner: Any = _inner(record)
        if not isinstance(inner, list | dict) or not inner:
            given = "an empty one" if isinstance(inner, list | dict) else kind_of(inner)
            problem = f"expected an array of values, or an object with names, not {given}"
            raise MalformedPayloadError(problem, **place)
        own = tuple(inner) if isinstance(inner, dict) else None
        if not index:
            names = own
        elif (own is None) is not (names is None):
            problem = "names in some records and none in others; give all records the same form"
            raise MalformedPayloadError(problem, **place)
        elif own is not None and names is not None and own != names:
            _check_names(own, names, place)
        row = list(inner) if names is None else [dict(inner)[name] for name in names]
        if rows and len(row) != len(rows[0]):
            problem = f"the record has {counted(len(row), 'value')} where the first has "
            raise MalformedPayloadError(f"{problem}{len(rows[0])}", **place)
        rows.append(row)
    return Cells(list(zip(*rows, strict=True)), names, lines=lines)


def _inner(record: Any) -> Any:
    """Return the values of a record that `features` or `data` holds; others as they are."""
    while isinstance(record, dict):
        held = [record[name] for name in _WRAPPERS if isinstance(record.get(name), list | dict)]
        if not held:
            return record
        record = held[0]
    return record


def _check_names(own: Sequence[str], names: Sequence[str], place: dict[str, int]) -> None:
    try:
        column_names.for_job(own, names, "the first record")
    except MalformedPayloadError as error:
        raise MalformedPayloadError(error.problem, **place) from None
