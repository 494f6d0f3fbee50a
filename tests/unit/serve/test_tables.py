"""Invocations of models with records that are a table, and answers that are text or have names."""

import json
from typing import Any

import numpy as np
import pytest

from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities
from container.codecs.records import SparseRows
from container.codecs.table.table import Table
from container.errors import (
    MalformedPayloadError,
    PredictionError,
    UnsupportedAcceptError,
    UnsupportedContentTypeError,
)
from container.schema import Schema
from serve.invocation import Answer, Invocation, ModelServable

SCHEMA = Schema.of(("text", "number"), ("city", "area"))


class Plugin(Algorithm):
    name = "plugin"

    def fit(self, job: object) -> Any:
        raise NotImplementedError

    def load(self, directory: object, manifest: object, options: object) -> Any:
        raise NotImplementedError


class OfTables(Plugin):
    records = "table"


class TakesAll(OfTables):
    capabilities = Capabilities(takes_missing=True)


class Labels:
    """Answers with the city, and the area twice."""

    def predict(self, records: Table) -> Any:
        city, area = records.columns
        return {"label": city, "areas": np.column_stack([area, area * 2])}


def invoked(
    body: bytes,
    content_type: str = "text/csv",
    accept: str = "text/csv",
    algorithm: Algorithm | None = None,
    model: Any = None,
    **members: Any,
) -> Answer:
    servable = ModelServable(
        algorithm or OfTables(), model or Labels(), "text/csv", schema=SCHEMA, **members
    )
    return servable.invoke(Invocation(body, content_type, accept))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/csv", b'Ulm\n"Bad ""Ems"", Lahn"\n'),
        (
            "application/json",
            b'{"predictions":[{"label":"Ulm","areas":[1.5,3.0]},'
            b'{"label":"Bad \\"Ems\\", Lahn","areas":[2.0,4.0]}]}',
        ),
        (
            "application/jsonlines",
            b'{"label":"Ulm","areas":[1.5,3.0]}\n'
            b'{"label":"Bad \\"Ems\\", Lahn","areas":[2.0,4.0]}\n',
        ),
    ],
)
def test_first_output_is_in_every_format_and_all_where_they_have_names(
    accept: str, expected: bytes
) -> None:
    """Text is quoted as the format asks (C-098)."""
    answer = invoked(b'Ulm,1.5\n"Bad ""Ems"", Lahn",2\n', accept=accept)

    assert (answer.body, answer.n_rows) == (expected, 2)


def test_text_as_npy_is_an_array_of_strings() -> None:
    """No pickle."""
    import io

    answer = invoked(b"Ulm,1\nBonn,2\n", accept="application/x-npy")

    assert isinstance(answer.body, bytes)
    assert np.load(io.BytesIO(answer.body), allow_pickle=False).tolist() == ["Ulm", "Bonn"]


def test_text_has_no_room_in_recordio() -> None:
    """406, with the formats that have."""
    with pytest.raises(UnsupportedAcceptError, match="text/csv, application/json"):
        invoked(b"Ulm,1\n", accept="application/x-recordio-protobuf")


def test_selected_outputs_are_those_of_the_model() -> None:
    """SAGEMAKER_INFERENCE_OUTPUT works with every algorithm whose answers have names."""
    answer = invoked(b"Ulm,1\n", accept="application/json", output_keys=("areas",))

    assert answer.body == b'{"predictions":[{"areas":[1.0,2.0]}]}'


def test_records_are_matched_by_name_and_a_label_is_left_out() -> None:
    """In JSON, and in CSV with a header."""
    assert invoked(b'{"area": 1, "city": "Ulm"}', "application/json").body == b"Ulm\n"
    header = b"area,city\n1,Ulm\n"
    assert invoked(header, "text/csv; header=present").body == b"Ulm\n"
    assert invoked(b"0,Ulm,1\n", "text/csv; label_size=1").body == b"Ulm\n"


def test_missing_value_is_refused_unless_the_algorithm_takes_it() -> None:
    """The smallest algorithm gives no answer that is NaN in disguise."""
    with pytest.raises(MalformedPayloadError, match=r"record 2: column 2 \('area'\): the value is"):
        invoked(b"Ulm,1\nBonn,\n")
    with pytest.raises(MalformedPayloadError, match=r"record 1: column 1 \('city'\): the value is"):
        invoked(b",1\nBonn,\n")

    answer = invoked(b",1\nBonn,\n", accept="application/jsonlines", algorithm=TakesAll())

    assert isinstance(answer.body, bytes)
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"label": None, "areas": [1.0, 2.0]},
        {"label": "Bonn", "areas": [None, None]},
    ]


def test_format_without_room_for_text_is_refused() -> None:
    """With those that have."""
    with pytest.raises(UnsupportedContentTypeError, match="text/csv, application/json, "):
        invoked(b"1 0:1", "text/libsvm")


class Sums:
    n_features = 2

    def predict(self, features: Any) -> Any:
        assert isinstance(features, np.ndarray)
        return features.sum(axis=1)


class Sparse(Plugin):
    capabilities = Capabilities(takes_missing=True)


def test_sparse_records_are_a_matrix_for_an_algorithm_that_does_not_take_them() -> None:
    """A cell that is absent is missing, as everywhere."""
    servable = ModelServable(Plugin(), Sums(), "text/csv")

    assert servable.invoke(Invocation(b"0 0:1 1:2", "text/libsvm")).body == b"3.0\n"
    with pytest.raises(MalformedPayloadError, match="record 1: column 2: the value is missing"):
        servable.invoke(Invocation(b"0 0:1", "text/libsvm"))
    servable = ModelServable(Sparse(), Sums(), "text/csv")
    assert servable.invoke(Invocation(b"0 0:1", "text/libsvm")).body == b"nan\n"
    assert SparseRows  # what the decoder made of it


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros(3), "3 predictions for 2 records"),
        ({"a": np.zeros(2), "b": np.zeros(1)}, "1 prediction of output 'b' for 2 records"),
        ({}, "the model gave no output"),
    ],
)
def test_answer_with_another_number_of_values_is_an_error(prediction: Any, message: str) -> None:
    """Never the answer of another record (C-072)."""

    class Wrong:
        def predict(self, records: object) -> Any:
            return prediction

    with pytest.raises(PredictionError, match=message):
        invoked(b"Ulm,1\nBonn,2\n", model=Wrong())


@pytest.mark.parametrize(
    "values", [np.array([1, 2]), np.array([1.0, 2.0]), np.array([True, False])]
)
def test_numbers_of_any_type_are_numbers(values: Any) -> None:
    """Integers for classes, 64-bit floats."""

    class Numbers:
        def predict(self, records: object) -> Any:
            return values

    answer = invoked(b"Ulm,1\nBonn,2\n", accept="application/json", model=Numbers())

    assert isinstance(answer.body, bytes)
    scores = [each["score"] for each in json.loads(answer.body)["predictions"]]
    assert scores == values.tolist()
