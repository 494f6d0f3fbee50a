"""Parser of JSON text: fast for strict JSON, lenient for the NaN and Infinity of Python.

`json.dumps` writes NaN and Infinity, which JSON has no words for, and `json.loads` reads them.
"""

import json
from typing import Any

import orjson
import simdjson

from container.codecs import text_lines
from container.codecs.json import number_rows
from container.errors import MalformedPayloadError

ARRAY = (simdjson.Array, list)
OBJECT = (simdjson.Object, dict)
REPEATED_NAME = "the object has two members of the same name"

# simdjson counts the elements of an array no further than 2**24 - 1, and pysimdjson's `as_list`
# writes beyond its memory where there are more.
_MAX_VALUES = 2**24 - 2


def parse(text: bytes) -> Any:
    """Parse JSON text into Python scalars and instances of `ARRAY` and `OBJECT`.

    Raises:
        MalformedPayloadError: the text is not JSON (with line and column), or nests too deep.
    """
    if len(text) > _MAX_VALUES and text.count(b",") >= _MAX_VALUES:
        raise MalformedPayloadError(f"the text has more than {_MAX_VALUES} values; send fewer")
    try:
        return number_rows.parse(text)
    except ValueError:
        pass  # it does not say where
    return _parse_leniently(text)


def load(text: bytes) -> Any:
    """Parse JSON text, with or without a byte order mark, into Python's own objects.

    Raises:
        MalformedPayloadError: as `parse` does.
    """
    text = text.removeprefix(text_lines.BOM)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_leniently(text)


def load_strictly(text: bytes) -> Any:
    """Parse JSON text as `load` does; an object with two members of a name is refused, too."""
    return _parse_leniently(text.removeprefix(text_lines.BOM))


def _parse_leniently(text: bytes) -> Any:
    """Parse NaN and Infinity as Python writes them, and integers and exponents of any size."""
    try:
        return json.loads(text.decode(), parse_int=float, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise MalformedPayloadError("the text is not UTF-8", line=line) from error
    except json.JSONDecodeError as error:
        is_end = error.pos >= len(error.doc.rstrip())
        reason = "unexpected end" if is_end else error.msg[0].lower() + error.msg[1:]
        raise MalformedPayloadError(
            f"the text is not JSON: {reason}", line=error.lineno, column=error.colno
        ) from error
    except RecursionError as error:
        raise MalformedPayloadError("the text nests deeper than any record") from error


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members) > len(dict(members)):
        raise MalformedPayloadError(REPEATED_NAME)
    return dict(members)
