"""Answers of any model as bytes: numbers or text, one output or several with names.

CSV and NPY hold one output, the first; JSON, JSON Lines and recordio hold all that have a name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container import codecs, content_types
from container.codecs import number_text
from container.codecs.records import NamedOutputs
from container.errors import PredictionError, UnsupportedAcceptError, counted

Answers = NDArray[Any] | NamedOutputs
"""Values of one output, `[n_rows]` or `[n_rows, k]`, or of several by name, the primary one first.
Numbers, or text as objects or strings."""

_ONE_OUTPUT = (content_types.CSV, content_types.NPY)


def check(answers: Answers, n_rows: int) -> None:
    """Raise `PredictionError` unless every output has a value for every record."""
    if isinstance(answers, np.ndarray) and len(answers) == n_rows:  # as almost always
        return
    outputs = answers if isinstance(answers, Mapping) else {"": answers}
    if not outputs:
        raise PredictionError("the model gave no output")
    for name, values in outputs.items():
        if len(values) != n_rows:
            called = f" of output {name!r}" if name else ""
            raise PredictionError(
                f"the model gave {counted(len(values), 'prediction')}{called} for "
                f"{counted(n_rows, 'record')}"
            )


def with_label(labels: NDArray[Any], answers: Answers) -> NDArray[Any]:
    """Put the label of each record before its row, `[n_rows, 1 + k]`.

    Raises:
        PredictionError: the answer has several outputs, not one row a record.
    """
    if isinstance(answers, Mapping):
        raise PredictionError("a label passes only before an answer of one output")
    rows = answers.reshape(len(labels), -1)
    if number_text.is_text(labels):
        rows = rows.astype(object)
        return np.column_stack([labels, rows])
    return np.column_stack([labels, rows]).astype(np.float32)


def encode(answers: Answers, accept: str) -> bytes:
    """Write the answers as `accept`, one of the algorithm's response types.

    Raises:
        UnsupportedAcceptError: the format has no room for text.
    """
    if isinstance(answers, np.ndarray) and not number_text.is_text(answers):
        return codecs.encode(answers, accept)
    if isinstance(answers, Mapping):
        if accept in _ONE_OUTPUT:
            return encode(next(iter(answers.values())), accept)
        outputs = {name: np.asarray(values) for name, values in answers.items()}
    else:
        outputs = {"score": answers}
    if accept not in _ONE_OUTPUT:
        if accept == content_types.RECORDIO and any(map(number_text.is_text, outputs.values())):
            offered = [name for name in codecs.RESPONSE_TYPES if name != accept]
            raise UnsupportedAcceptError(f"{accept} for text", offered)
        return codecs.encode_named(outputs, accept)
    (texts,) = outputs.values()
    if accept == content_types.NPY:
        return codecs.encode(texts.astype(str), accept)
    columns = texts.reshape(len(texts), -1).T
    return codecs.encode_named({str(index): each for index, each in enumerate(columns)}, accept)
