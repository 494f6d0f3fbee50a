import json
from dataclasses import replace

import numpy as np
import pytest

from container import cgroup, content_types
from container.algorithms.serving_contract import Capabilities
from container.errors import (
    MalformedPayloadError,
    OutOfMemoryError,
    PredictionError,
    UnsupportedAcceptError,
    UnsupportedContentTypeError,
)
from serve.invocation import EMPTY, Answer, Invocation, ModelServable
from tests.unit.serve.conftest import SumAlgorithm, SumModel


def test_invoke_answers_in_the_default_type(servable: ModelServable) -> None:
    """Answers in the default format where there is no Accept (C-056)."""
    answer = servable.invoke(Invocation(b"1,2\n3,4\n", "text/csv"))

    assert answer == Answer(b"3.0\n7.0\n", "text/csv", 2, answer.stages)
    assert all(seconds > 0 for seconds in answer.stages)


def test_invoke_answers_as_asked(servable: ModelServable) -> None:
    """Answers in the best accepted format, whatever the case and the parameters."""
    answer = servable.invoke(Invocation(b"1,2", "TEXT/CSV; charset=utf-8", "Application/JSON"))

    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {"predictions": [{"score": 3.0}]}


def test_invoke_without_a_content_type_takes_the_algorithms_first(servable: ModelServable) -> None:
    """A request without Content-Type is read in the algorithm's first format."""
    assert servable.invoke(Invocation(b"1,2")).body == b"3.0\n"


def test_invoke_without_a_content_type_says_so_where_the_body_is_refused(
    servable: ModelServable,
) -> None:
    """The error names the assumed format and the header to send (C-057)."""
    with pytest.raises(MalformedPayloadError) as caught:
        servable.invoke(Invocation(b"1,2\n1,x\n"))

    assert caught.value.message == (
        "line 2, column 2: the cell is text; send numbers only (encode categories as numbers), and "
        "no header; the request has no Content-Type and was read as text/csv: "
        "send the header, Content-Type: text/csv for example"
    )
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_invoke_empty_body_has_an_empty_answer(servable: ModelServable) -> None:
    """An empty body has an empty answer, whatever the headers (C-058)."""
    assert servable.invoke(Invocation(b"", "text/nonsense")) == EMPTY


def test_invoke_label_column_is_dropped_when_declared(servable: ModelServable) -> None:
    """With label_size=1 the label column is skipped."""
    assert servable.invoke(Invocation(b"9,1,2", "text/csv;label_size=1")).body == b"3.0\n"


def test_invoke_judges_the_headers_before_the_body(servable: ModelServable) -> None:
    """Refused before decoding."""
    with pytest.raises(UnsupportedContentTypeError, match="'text/xml'"):
        servable.invoke(Invocation(b"not,csv", "text/xml", "text/html"))
    with pytest.raises(UnsupportedAcceptError, match="'text/html'"):
        servable.invoke(Invocation(b"not,csv", "text/csv", "text/html"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"1\n", "line 1: the line has 1 column where 2 are expected"),
        (b"1,2\n1,2,3\n", "line 2: the line has 3 columns where 2 are expected"),
        (b"1,x\n", "line 1, column 2"),
    ],
)
def test_invoke_wrong_width_or_text_is_refused(
    servable: ModelServable, body: bytes, message: str
) -> None:
    """A missing column is an error, never a missing value (C-057)."""
    with pytest.raises(MalformedPayloadError, match=message):
        servable.invoke(Invocation(body, "text/csv"))


def test_invoke_sparse_records_may_be_narrower_but_not_wider(servable: ModelServable) -> None:
    """A sparse record may lack columns, and has none beyond the model's."""
    with pytest.raises(
        MalformedPayloadError, match="line 1, column 2: the feature's column is not in 0 to 1"
    ):
        servable.invoke(Invocation(b"0:1 2:1", "text/libsvm"))


def test_invoke_answers_with_what_was_selected(servable: ModelServable) -> None:
    """Answers with the selected outputs in their order, instead of the score (C-099)."""
    selecting = replace(servable, output_keys=("both", "half"))

    csv = selecting.invoke(Invocation(b"1,2\n3,4\n", "text/csv"))
    as_json = selecting.invoke(Invocation(b"1,2\n", "text/csv", "application/json"))

    assert csv.body == b'"[3.0, -3.0]",1.5\n"[7.0, -7.0]",3.5\n'
    assert json.loads(as_json.body) == {"predictions": [{"both": [3.0, -3.0], "half": 1.5}]}


def test_invoke_does_not_offer_what_selected_outputs_cannot_be_written_as(
    servable: ModelServable,
) -> None:
    """Formats without room for keys are passed over (C-099)."""
    algorithm = SumAlgorithm(response_types=("text/csv", "application/x-npy"))
    selecting = replace(servable, algorithm=algorithm, output_keys=("half",))

    with pytest.raises(UnsupportedAcceptError, match=r"text/csv$"):
        selecting.invoke(Invocation(b"1,2", "text/csv", "application/x-npy"))
    answer = selecting.invoke(Invocation(b"1,2", "text/csv", "application/x-npy, text/csv;q=0.1"))

    assert answer.content_type == "text/csv"


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "application/jsonlines"])
def test_invoke_in_batch_transform_ends_with_a_newline(
    servable: ModelServable, accept: str
) -> None:
    """Answers of consecutive requests can be joined byte by byte (C-073)."""
    algorithm = SumAlgorithm(response_types=("text/csv", accept))
    batch = replace(servable, algorithm=algorithm, is_batch=True)

    answers = [
        batch.invoke(Invocation(body, "text/csv", accept)).body for body in (b"1,2", b"3,4\n")
    ]

    assert all(isinstance(body, bytes) and body.endswith(b"\n") for body in answers)
    assert not any(isinstance(body, bytes) and body.endswith(b"\n\n") for body in answers)


def test_invoke_refuses_to_answer_for_fewer_records_than_were_sent(
    servable: ModelServable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with too few predictions is an error, not an answer (C-072)."""
    monkeypatch.setattr(servable.model, "predict", lambda features: np.zeros(1, dtype=np.float32))

    with pytest.raises(PredictionError, match="1 prediction for 2 records"):
        servable.invoke(Invocation(b"1,2\n3,4\n", "text/csv"))


@pytest.mark.parametrize(("is_quick", "is_thread_safe"), [(False, True), (True, False)])
def test_servable_is_quick_only_with_a_quick_and_thread_safe_algorithm(
    servable: ModelServable, is_quick: bool, is_thread_safe: bool
) -> None:
    """Only quick, thread-safe models run inline on the event loop."""
    algorithm = SumAlgorithm(
        capabilities=Capabilities(is_quick=is_quick, is_thread_safe=is_thread_safe)
    )
    servable.latency.record(1, 0.0)

    assert servable.may_run_inline(Invocation(b"1", "text/csv"))
    assert not replace(servable, algorithm=algorithm).may_run_inline(Invocation(b"1", "text/csv"))


def test_invoke_refuses_an_answer_for_which_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused before the prediction, by records times outputs."""

    class WideModel(SumModel):
        n_outputs = 4_000_000
        error = AssertionError("it has predicted")

    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: 1 << 30)
    servable = ModelServable(SumAlgorithm(), WideModel(), "text/csv")

    with pytest.raises(OutOfMemoryError, match="3 records of 4000000 predicted values"):
        servable.invoke(Invocation(b"1,2\n3,4\n5,6", "text/csv"))


def test_content_type_is_parsed_once_for_all_requests_with_it(
    servable: ModelServable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed per model, not per request; the table of formats is bounded."""
    parsed: list[str] = []
    parse = content_types.parse

    def spy(header: str) -> content_types.MediaType:
        parsed.append(header)
        return parse(header)

    monkeypatch.setattr(content_types, "parse", spy)

    for _ in range(3):
        servable.may_run_inline(Invocation(b"1,2\n", "text/csv"))
        servable.invoke(Invocation(b"1,2\n", "text/csv"))
    assert parsed == ["text/csv"]

    for number in range(1000):
        servable.invoke(Invocation(b"1,2\n", f"text/csv; x={number}"))
    assert len(servable._formats) <= 64
