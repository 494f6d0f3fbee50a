import json

import pytest

from container.errors import (
    MalformedPayloadError,
    UnsupportedAcceptError,
    UnsupportedContentTypeError,
)
from serve.invocation import Answer, Invocation, Servable, invoke


def test_invoke_answers_in_the_default_type(servable: Servable) -> None:
    """C-056: no Accept means the default of the image."""
    answer = invoke(Invocation(b"1,2\n3,4\n", "text/csv"), servable)

    assert answer == Answer(b"3.0\n7.0\n", "text/csv", 2)


def test_invoke_answers_as_asked(servable: Servable) -> None:
    """The best of what is accepted, parameters and case aside."""
    answer = invoke(Invocation(b"1,2", "TEXT/CSV; charset=utf-8", "Application/JSON"), servable)

    assert answer.content_type == "application/json"
    assert json.loads(answer.body) == {"predictions": [{"score": 3.0}]}


def test_invoke_without_a_content_type_takes_the_algorithms_first(servable: Servable) -> None:
    """A request without Content-Type is legal."""
    assert invoke(Invocation(b"1,2"), servable).body == b"3.0\n"


def test_invoke_empty_body_has_an_empty_answer(servable: Servable) -> None:
    """C-058: whatever the headers say."""
    assert invoke(Invocation(b"", "text/nonsense"), servable) == Answer(b"")


def test_invoke_label_column_is_dropped_when_declared(servable: Servable) -> None:
    """Training data can be sent back as it is with label_size=1."""
    assert invoke(Invocation(b"9,1,2", "text/csv;label_size=1"), servable).body == b"3.0\n"


def test_invoke_judges_the_headers_before_the_body(servable: Servable) -> None:
    """No work is done for an answer that cannot be given."""
    with pytest.raises(UnsupportedContentTypeError, match="'text/xml'"):
        invoke(Invocation(b"not,csv", "text/xml", "text/html"), servable)
    with pytest.raises(UnsupportedAcceptError, match="'text/html'"):
        invoke(Invocation(b"not,csv", "text/csv", "text/html"), servable)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"1\n", "the records have 1 features; the model takes 2"),
        (b"1,2,3\n", "the records have 3 features; the model takes 2"),
        (b"1,x\n", "line 1, column 2"),
    ],
)
def test_invoke_wrong_width_or_text_is_refused(
    servable: Servable, body: bytes, message: str
) -> None:
    """C-057: a missing column is an error, never a missing value."""
    with pytest.raises(MalformedPayloadError, match=message):
        invoke(Invocation(body, "text/csv"), servable)


def test_invoke_sparse_records_may_be_narrower_but_not_wider(servable: Servable) -> None:
    """A column that does not occur is missing; one that the model lacks is an error."""
    with pytest.raises(MalformedPayloadError, match="3 features; the model takes 2"):
        invoke(Invocation(b"0:1 2:1", "text/libsvm"), servable)
