"""Context of a user's functions."""

import json
from pathlib import Path

import pytest

from container import __version__
from serve.invocation import Invocation
from serve.user_code.context import Context

CUSTOM = "X-Amzn-SageMaker-Custom-Attributes"
HEADERS = {b"content-type": b"text/csv", b"x-amzn-sagemaker-custom-attributes": b"trace=1"}


@pytest.fixture
def context() -> Context:
    loaded = Context(Path("/opt/ml/model"), {"algorithm": "xgboost"})
    return loaded.of(Invocation(b"", headers=HEADERS, request_id="mine-7"))


def test_properties_are_those_of_multi_model_server(context: Context) -> None:
    """`system_properties` has every key that AWS's own handlers look up."""
    properties = context.system_properties

    assert set(properties) == {"model_dir", "gpu_id", "batch_size", "server_name", "server_version"}
    assert properties["model_dir"] == "/opt/ml/model"
    assert properties["batch_size"] == 1
    assert properties["server_version"] == __version__
    assert context.model_name == "model"
    assert context.manifest["algorithm"] == "xgboost"


@pytest.mark.parametrize("name", [CUSTOM, CUSTOM.lower(), CUSTOM.upper()])
def test_request_headers_are_found_without_regard_to_case(context: Context, name: str) -> None:
    """Finds headers in any case, by each method."""
    processor = context.request_processor[0]

    assert context.get_request_header(0, name) == "trace=1"
    assert context.get_all_request_header(0)[name] == "trace=1"
    assert processor.get_request_property(name) == "trace=1"
    assert processor.get_request_properties().get(name) == "trace=1"
    assert name in processor.get_request_properties()


def test_request_header_that_is_not_there_is_none(context: Context) -> None:
    """Returns None for a missing header, as multi-model-server does."""
    assert context.get_request_header(0, "Accept") is None
    assert context.get_all_request_header(0).get("Accept", "x") == "x"
    assert "Accept" not in context.get_all_request_header(0)


def test_request_headers_can_be_logged_as_they_are(context: Context) -> None:
    """Shows headers as a dictionary with lower-case names."""
    assert json.loads(json.dumps(context.get_all_request_header(0))) == {
        "content-type": "text/csv",
        CUSTOM.lower(): "trace=1",
    }


def test_request_id_is_the_one_of_the_log(context: Context) -> None:
    """Has the request id of the log."""
    assert context.get_request_id() == "mine-7"
    assert context.get_request_id(0) == "mine-7"


def test_there_is_one_request_and_none_while_the_model_loads(context: Context) -> None:
    """`idx` is an index into a batch of one."""
    with pytest.raises(IndexError):
        context.get_request_header(1, "Accept")
    with pytest.raises(IndexError):
        Context(Path("/m"), {}).get_request_header(0, "Accept")


def test_response_is_told_by_header_type_and_status(context: Context) -> None:
    """Uses the last value of a header, in any case of its name."""
    context.set_response_header(0, "X-Mine", "1")
    context.set_response_header(0, "x-mine", "2")
    context.set_response_content_type(0, "text/plain; charset=utf-8")
    context.set_response_status(code=202, phrase="As you like")

    request = context.request_processor[0]
    assert request.status == 202
    assert request.response_headers == {
        "x-mine": "2",
        "content-type": "text/plain; charset=utf-8",
    }


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (CUSTOM, "a\r\nSet-Cookie: b", "not printable ASCII"),
        ("X-Mine", "a\nb", "not printable ASCII"),
        ("X-Mine", "a\0", "not printable ASCII"),
        (CUSTOM, "größe", "not printable ASCII"),
        (CUSTOM, "x" * 1025, "1025 characters; SageMaker accepts at most 1024"),
        ("x-long", "x" * 8193, "8193 characters; clients read at most 8192"),
        ("X-Mine: 1\r\nX-Other", "a", "is not a header name"),
        ("", "a", "is not a header name"),
        ("Content-Length", "5", "or is the server's"),
        ("transfer-encoding", "chunked", "or is the server's"),
        ("Connection", "close", "or is the server's"),
    ],
)
def test_response_header_that_cannot_be_sent_is_refused(
    context: Context, name: str, value: str, problem: str
) -> None:
    """Injects, truncates and corrects nothing; keeps SageMaker's limit (C-052)."""
    with pytest.raises(ValueError, match=problem):
        context.set_response_header(0, name, value)

    assert context.request_processor[0].response_headers == {}


def test_answer_has_so_many_headers_at_most(context: Context) -> None:
    """Together they would not fit between the model's process and the worker."""
    for number in range(64):
        context.set_response_header(0, f"X-{number}", "1")
    context.set_response_header(0, "X-0", "2")

    with pytest.raises(ValueError, match="64 headers already"):
        context.set_response_header(0, "X-64", "1")


def test_longest_custom_attributes_are_sent(context: Context) -> None:
    """Accepts 1,024 visible characters (C-052)."""
    context.set_response_header(0, CUSTOM, "~" * 1024)
    context.set_response_header(0, "X-Mine", "x" * 5000)


@pytest.mark.parametrize("value", [1, None, b"a"])
def test_response_header_must_be_text(context: Context, value: object) -> None:
    """Refuses a header that is not text, and shows it."""
    with pytest.raises(TypeError, match="must be str; given"):
        context.set_response_header(0, "X-Mine", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [100, 199, 600, "200", None])
def test_status_that_no_answer_has_is_refused(context: Context, code: object) -> None:
    """Refuses a status that HTTP does not have."""
    with pytest.raises(ValueError, match="is not an integer from 200 to 599"):
        context.set_response_status(code)  # type: ignore[arg-type]


def test_what_is_kept_on_the_context_is_there_in_each_invocation() -> None:
    """Attributes of model_fn's context are in each request's; requests are separate."""
    loaded = Context(Path("/m"), {})
    loaded.cache = {"a": 1}  # type: ignore[attr-defined]

    first, second = (loaded.of(Invocation(b"", request_id=name)) for name in "ab")

    assert first.cache is second.cache  # type: ignore[attr-defined]
    assert (first.get_request_id(), second.get_request_id()) == ("a", "b")
