"""Wire formats of the servers: the bytes of a request, and the check of an answer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-5
CONSTANT_ANSWER = b"0.5"

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Format:
    """One way to carry rows to a server and predictions back.

    Args:
        name: As ``server.toml`` calls it.
        description: As reports call it.
        decode: Predictions of an answer; any exception means that it holds none.
    """

    name: str
    description: str
    content_type: str
    encode: Callable[[Rows], bytes]
    decode: Callable[[bytes], Sequence[float]]

    def is_right(self, answer: bytes, expected: Sequence[float]) -> bool:
        """Say whether the answer holds the expected predictions, one a row, in order."""
        try:
            predictions = [float(prediction) for prediction in self.decode(answer)]
        except (ValueError, TypeError, LookupError):
            return False
        return len(predictions) == len(expected) and all(
            abs(prediction - right) <= TOLERANCE
            for prediction, right in zip(predictions, expected, strict=True)
        )


@dataclass(frozen=True, slots=True)
class ConstantFormat(Format):
    """Format of a server without a model: its constant answer is the right one."""

    def is_right(self, answer: bytes, expected: Sequence[float]) -> bool:
        return answer == CONSTANT_ANSWER


def _csv(rows: Rows) -> bytes:
    return "".join(",".join(map(repr, row)) + "\n" for row in rows).encode()


def _from_csv(answer: bytes) -> list[float]:
    # Commas and newlines both separate predictions in answers of SageMaker containers.
    return [float(cell) for cell in answer.decode().replace(",", "\n").split()]


def _instances(rows: Rows) -> bytes:
    return _json({"instances": rows})


def _from_predictions(answer: bytes) -> Sequence[float]:
    predictions: Sequence[float] = json.loads(answer)["predictions"]
    return predictions


def _tensor(rows: Rows) -> bytes:
    values = [value for row in rows for value in row]
    shape = [len(rows), len(rows[0])]
    features = {"name": "features", "shape": shape, "datatype": "FP32", "data": values}
    return _json({"inputs": [features]})


def _from_tensor(answer: bytes) -> Sequence[float]:
    predictions: Sequence[float] = json.loads(answer)["outputs"][0]["data"]
    return predictions


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


FORMATS = {
    format_.name: format_
    for format_ in (
        Format("csv", "CSV", "text/csv", _csv, _from_csv),
        Format("instances", "JSON (instances)", "application/json", _instances, _from_predictions),
        Format("tensor", "JSON (inference v2)", "application/json", _tensor, _from_tensor),
        ConstantFormat("constant", "CSV", "text/csv", _csv, _from_csv),
    )
}
