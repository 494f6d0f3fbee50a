"""Diagnosis of a JSON value that is not a record, or not a number of one: kind and remedy.

Called on the error path only; see `diagnosis`.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from container.codecs.json.json_text import ARRAY, OBJECT

_KINDS = {bool: "true or false", type(None): "null"}
_BOOLEANS = frozenset({"true", "false"})
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "nat", "-", "?", "\\n"})


def kind_of(value: Any) -> str:
    """Name the kind of a value where a record is expected, without quoting the value."""
    if isinstance(value, ARRAY):
        return "an array"
    if isinstance(value, OBJECT):
        return "an object"
    if isinstance(value, str):
        is_json = value.lstrip()[:1] in ("{", "[")
        return "a string; " + (
            "encode it as JSON once only" if is_json else "send arrays of numbers"
        )
    return _KINDS.get(type(value), "a number; a record is an array, such as [1, 2]")


def of_cell(value: Any) -> str:
    """Name the kind of a value where a number is expected, and the remedy."""
    if isinstance(value, ARRAY):
        return 'an array; a record is one array of numbers, and many are {"instances": [record, …]}'
    if isinstance(value, str):
        return f"a string{_in_string(value.strip().lower())}"
    return kind_of(value)


def other_members(record: Any, names: Sequence[str]) -> str:
    """Guess what an object without the members of a record means; empty without a clue."""
    if not names:
        return ""
    first = record[names[0]]
    if isinstance(first, ARRAY) and len(first) and isinstance(first[0], ARRAY + OBJECT):
        return '; many records are {"instances": [record, …]}'
    if isinstance(first, ARRAY) and len(names) == 1:
        return ""
    return (
        '; values are not matched by the names of columns: send them as {"features": [1, 2]}, in '
        "the order of the model's features"
    )


def _in_string(text: str) -> str:
    if text in _MISSING:
        return " for a missing value; send null"
    if text in _BOOLEANS:
        return " for true or false; leave out its quotes"
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return " that holds a number; leave out its quotes"
        return " that holds infinity; send finite numbers"
    return "; encode categories as numbers"
