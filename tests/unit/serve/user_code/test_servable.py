"""A script's functions, called for real invocations without a server."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from container import manifest
from container.errors import (
    MalformedPayloadError,
    ModelLoadError,
    SettingsError,
    UnsupportedAcceptError,
    UserCodeError,
)
from container.manifest import Framework, ModelFacts
from container.settings import Settings
from serve import loading
from serve.invocation import EMPTY, Answer, Invocation
from tests.unit.serve.conftest import ModelDirectory

FOUR = """
    def model_fn(model_dir):
        return 10

    def input_fn(input_data, content_type):
        return [input_data, content_type]

    def predict_fn(data, model):
        return [*data, model]

    def output_fn(prediction, accept):
        return repr([*prediction, accept])
"""
ECHO = """
    model_fn = str

    def transform_fn(model, input_data, content_type, accept):
        return input_data
"""
# What a test wants returned or raised is put into the module.
RETURNING = """
    RESULT = None

    def transform_fn(model, input_data, content_type, accept, context):
        return RESULT(context) if callable(RESULT) else RESULT

    def model_fn(model_dir):
        return None
"""


def _returning(model_directory: ModelDirectory, result: Any, accept: str = "") -> Answer:
    servable = model_directory.load(RETURNING)
    sys.modules["inference"].RESULT = result
    return servable.invoke(Invocation(b"x", accept=accept, request_id="mine-7"))


def _body(answer: Answer) -> bytes:
    assert isinstance(answer.body, bytes)
    return answer.body


def _booster() -> xgboost.Booster:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    return xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 3)


def test_four_functions_are_called_in_their_order(model_directory: ModelDirectory) -> None:
    """Passes each function the result of the one before it, and the headers."""
    answer = model_directory.load(FOUR).invoke(Invocation(b"1,2", "text/csv", "text/plain"))

    assert answer.body == b"['1,2', 'text/csv', 10, 'text/plain']"
    assert answer.content_type == "text/plain"
    assert all(seconds > 0 for seconds in answer.stages)


def test_transform_fn_does_the_work_of_three(model_directory: ModelDirectory) -> None:
    """Calls transform_fn with the model first."""
    servable = model_directory.load("""
        def model_fn(model_dir):
            return 10

        def transform_fn(model, input_data, content_type, accept):
            return repr([model, input_data, content_type, accept])
    """)

    answer = servable.invoke(Invocation(b"1,2", "text/csv", "text/plain"))

    assert answer.body == b"[10, '1,2', 'text/csv', 'text/plain']"
    assert answer.stages[1] > 0


def test_user_code_is_not_for_the_event_loop_nor_for_many_threads(
    model_directory: ModelDirectory,
) -> None:
    """Runs in a thread, so that pings do not wait; is loaded after the fork (C-045)."""
    servable = model_directory.load(ECHO)

    assert not servable.may_run_inline(Invocation(b"1", "text/csv"))
    assert not servable.is_thread_safe
    assert not loading.inspect(model_directory.path, Settings()).is_fork_safe


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("text/csv", b"1", "1"),
        ("Text/CSV; charset=UTF-8", b"1", "1"),
        ("application/json; charset=utf-8", b"[1]", "[1]"),
        ("text/csv; charset=latin-1", b"\xe9", b"\xe9"),
        ("application/x-npy", b"1", b"1"),
        ("text/plain", b"1", b"1"),
        ("", b"1", b"1"),
    ],
)
def test_csv_and_json_come_as_text_and_all_else_as_bytes(
    model_directory: ModelDirectory, content_type: str, body: bytes, expected: str | bytes
) -> None:
    """Ignores parameters and case, unlike the toolkit (C-055)."""
    servable = model_directory.load(FOUR)

    answer = servable.invoke(Invocation(body, content_type, "text/plain"))

    data, given_type, *_ = eval(_body(answer))  # noqa: S307 - the repr of a list
    assert data == expected
    assert given_type == (content_type or None)


def test_text_that_is_not_utf_8_is_the_clients_fault(model_directory: ModelDirectory) -> None:
    """Answers 400 where the toolkit answers 500 (C-057)."""
    with pytest.raises(MalformedPayloadError, match="not UTF-8"):
        model_directory.load(FOUR).invoke(Invocation(b"\xff", "text/csv"))


@pytest.mark.parametrize(
    ("accept", "default", "given", "content_type"),
    [
        ("", None, "application/json", "application/json"),
        ("*/*", None, "application/json", "application/json"),
        ("*/*;q=0.8", None, "application/json", "application/json"),
        ("", "image/png", "image/png", "image/png"),
        ("text/plain", "image/png", "text/plain", "text/plain"),
        ("text/csv;q=0.5, */*", None, "text/csv;q=0.5, */*", "text/csv"),
        ("text/*, a/b; c=d; q=1", None, "text/*, a/b; c=d; q=1", "a/b; c=d"),
        ("text/*", None, "text/*", "application/json"),
    ],
)
def test_accept_is_told_as_it_is_and_names_the_answer(
    model_directory: ModelDirectory,
    accept: str,
    default: str | None,
    given: str,
    content_type: str,
) -> None:
    """Takes the type of `accept` for a body returned without one (C-053, C-056)."""
    servable = model_directory.load(FOUR, default_accept=default)

    answer = servable.invoke(Invocation(b"1", "text/csv", accept))

    assert eval(_body(answer))[-1] == given  # noqa: S307
    assert answer.content_type == content_type


def test_hooks_are_called_before_and_after_the_model_is_loaded(
    model_directory: ModelDirectory,
) -> None:
    """Calls pre_model_fn(model_dir) and model_warmup_fn(model_dir, model)."""
    model_directory.load("""
        calls = []

        def pre_model_fn(model_dir):
            calls.append(("pre", model_dir))

        def model_fn(model_dir, context):
            calls.append(("model", context.system_properties["model_dir"]))
            return 7

        def model_warmup_fn(model_dir, model):
            calls.append(("warm-up", model))

        def predict_fn(data, model):
            return data
    """)

    directory = str(model_directory.path)
    assert sys.modules["inference"].calls == [
        ("pre", directory),
        ("model", directory),
        ("warm-up", 7),
    ]


def test_context_shows_the_request_and_takes_the_answer(model_directory: ModelDirectory) -> None:
    """Sets custom attributes from the user's code (C-052)."""
    servable = model_directory.load("""
        def model_fn(model_dir, context):
            context.greeting = "hello"

        def predict_fn(data, model, context):
            return context.greeting

        def output_fn(prediction, accept, context):
            name = "X-Amzn-SageMaker-Custom-Attributes"
            context.set_response_header(0, name, context.get_request_header(0, name).upper())
            context.set_response_content_type(0, "text/plain")
            context.set_response_status(202)
            return prediction
    """)
    headers = {b"x-amzn-sagemaker-custom-attributes": b"trace=1"}

    answer = servable.invoke(Invocation(b"1", "text/csv", "text/csv", headers))

    assert answer.body == b"hello"
    assert answer.status == 202
    assert answer.content_type == "text/plain"
    assert answer.headers == (("x-amzn-sagemaker-custom-attributes", "TRACE=1"),)


def test_what_one_invocation_sets_the_next_one_does_not_have(
    model_directory: ModelDirectory,
) -> None:
    """Gives each invocation a context of its own."""
    servable = model_directory.load("""
        def transform_fn(model, data, content_type, accept, context):
            if data == b"first":
                context.set_response_status(418)
                context.set_response_header(0, "X-Mine", "1")
            return data

        model_fn = str
    """)

    assert servable.invoke(Invocation(b"first")).status == 418
    second = servable.invoke(Invocation(b"second"))
    assert (second.status, second.headers) == (200, ())


@pytest.mark.parametrize(
    ("result", "body", "content_type"),
    [
        (b"bytes", b"bytes", "text/plain"),
        (bytearray(b"array"), b"array", "text/plain"),
        (memoryview(b"view"), b"view", "text/plain"),
        ("téxt", "téxt".encode(), "text/plain"),
        (("<a/>", "text/xml"), b"<a/>", "text/xml"),
        ((b"", "text/xml"), b"", "text/xml"),
        ({"a": [1, 2.5]}, b'{"a":[1,2.5]}', "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        (True, b"true", "application/json"),
        (({"a": 1}, "application/x+json"), b'{"a":1}', "application/x+json"),
    ],
)
def test_returned_value_is_a_body_or_a_body_and_its_type(
    model_directory: ModelDirectory, result: Any, body: bytes, content_type: str
) -> None:
    """Sends bodies as the toolkit does; a dict becomes JSON, with its type (C-053)."""
    answer = _returning(model_directory, result, "text/plain")

    assert answer.body == body
    assert answer.content_type == content_type


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (None, "a NoneType was returned as body; return bytes, str, a generator"),
        (np.zeros(3), "a ndarray was returned"),
        (object(), "a object was returned"),
        (("a", "b", "c"), "a tuple of 3 was returned"),
        ((), "a tuple of 0 was returned"),
        (("a", None), "must be str; given: None"),
    ],
)
def test_returned_value_that_is_no_body_is_an_error_that_says_so(
    model_directory: ModelDirectory, result: Any, problem: str
) -> None:
    """Raises an error that names what is accepted."""
    with pytest.raises(TypeError, match=problem):
        _returning(model_directory, result)


def test_returned_type_that_cannot_be_sent_is_refused(model_directory: ModelDirectory) -> None:
    """Injects no header through the content type (C-052)."""
    with pytest.raises(ValueError, match="not printable ASCII"):
        _returning(model_directory, ("a", "text/plain\r\nX-Injected: 1"))


def test_returned_type_comes_before_one_that_was_set(model_directory: ModelDirectory) -> None:
    """Prefers a returned type to the context's, and that to the client's."""

    def result(context: Any) -> Any:
        context.set_response_content_type(0, "text/one")
        return "a", "text/two"

    answer = _returning(model_directory, result, "text/three")

    assert answer.content_type == "text/two"
    assert answer.headers == ()


def _with_status(status: int, result: Any) -> Any:
    def function(context: Any) -> Any:
        context.set_response_status(status)
        return result

    return function


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("nothing", [None, b"", "", (b"", "text/plain")])
def test_status_without_a_body_needs_no_body(
    model_directory: ModelDirectory, status: int, nothing: Any
) -> None:
    """Sends no body and no type for such a status (RFC 9110)."""
    answer = _returning(model_directory, _with_status(status, nothing))

    assert (answer.status, answer.body, answer.content_type) == (status, b"", "")


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("body", [b"x", "x", {}, (b"x", "text/plain")])
def test_status_without_a_body_refuses_one(
    model_directory: ModelDirectory, status: int, body: Any
) -> None:
    """Refuses a body, which would be read as the next answer."""
    with pytest.raises(ValueError, match=rf"bytes? .*returned with status {status}, which has no"):
        _returning(model_directory, _with_status(status, body))


def test_status_without_a_body_refuses_a_stream(model_directory: ModelDirectory) -> None:
    """Refuses a stream, and closes the generator."""
    ended = []

    def result(context: Any) -> Iterator[str]:
        context.set_response_status(204)
        try:
            yield "a"
        finally:
            ended.append(True)

    with pytest.raises(TypeError, match="a stream was returned with status 204"):
        _returning(model_directory, result)
    assert ended == [True]


def _streamed(answer: Answer) -> list[bytes]:
    assert not isinstance(answer.body, bytes)
    return [piece for piece in answer.body if piece]


def test_generator_is_streamed_as_it_goes(model_directory: ModelDirectory) -> None:
    """Makes only the first piece before the answer begins (C-065)."""
    made = []

    def pieces() -> Iterator[str | bytes]:
        for piece in ("a", b"b", "c"):
            made.append(piece)
            yield piece

    answer = _returning(model_directory, (pieces(), "text/event-stream"))

    assert made == ["a"]
    assert _streamed(answer) == [b"a", b"b", b"c"]
    assert answer.content_type == "text/event-stream"


def test_generator_sets_headers_before_its_first_piece(model_directory: ModelDirectory) -> None:
    """Sends headers that the generator sets before its first piece."""

    def result(context: Any) -> Iterator[str]:
        context.set_response_status(201)
        context.set_response_header(0, "X-Mine", "1")
        yield "a"

    answer = _returning(model_directory, result)

    assert (answer.status, answer.headers) == (201, (("x-mine", "1"),))


def test_error_before_the_first_piece_is_an_ordinary_error(model_directory: ModelDirectory) -> None:
    """Answers an error before the first piece with its status, or 500 (C-066)."""

    def failing(context: Any) -> Iterator[str]:
        raise ValueError("too early")
        yield ""

    def refusing(context: Any) -> Iterator[str]:
        raise Refusal(422, "too short")
        yield ""

    with pytest.raises(ValueError, match="too early"):
        _returning(model_directory, failing)
    with pytest.raises(UserCodeError, match="too short"):
        _returning(model_directory, refusing)


def test_generator_without_pieces_is_an_empty_answer(model_directory: ModelDirectory) -> None:
    """Answers a generator without pieces with an empty body."""
    assert _streamed(_returning(model_directory, iter(()))) == []


@pytest.mark.parametrize("piece", [None, 1, ["a"]])
def test_piece_that_is_no_text_is_an_error(model_directory: ModelDirectory, piece: Any) -> None:
    """Raises an error for a piece that is not text or bytes, also later on."""
    with pytest.raises(TypeError, match="was returned as body"):
        _returning(model_directory, iter([piece]))

    with pytest.raises(TypeError, match="was returned as body"):
        _streamed(_returning(model_directory, iter(["a", piece])))


def test_closing_the_stream_closes_the_users_generator(model_directory: ModelDirectory) -> None:
    """Runs the generator's `finally` when the client leaves."""
    ended = []

    def result(context: Any) -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            ended.append(True)

    answer = _returning(model_directory, result)
    assert not isinstance(answer.body, bytes)
    next(answer.body)
    answer.body.close()

    assert ended == [True]


def test_sys_exit_in_the_middle_of_a_stream_is_an_error_with_its_cause(
    model_directory: ModelDirectory,
) -> None:
    """The thread goes on, and the log has the traceback."""

    def result(context: Any) -> Iterator[str]:
        yield "a"
        sys.exit("bye")

    with pytest.raises(RuntimeError, match=r"raised SystemExit\('bye'\)") as caught:
        _streamed(_returning(model_directory, result))

    assert isinstance(caught.value.__cause__, SystemExit)


class Refusal(Exception):
    """Has the members of the toolkit's BaseInferenceToolkitError."""

    def __init__(self, status_code: object, message: object) -> None:
        super().__init__(status_code, message)
        self.status_code, self.message = status_code, message


def _raising(error: BaseException) -> Any:
    def result(context: Any) -> None:
        raise error

    return result


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [(400, "no", "no"), (422, ["a", 1], "['a', 1]"), (599, "\ud800", "?"), (503, "", "")],
)
def test_exception_with_a_status_and_a_message_is_that_error(
    model_directory: ModelDirectory, status: int, message: Any, shown: str
) -> None:
    """Answers its status and message, as the toolkit's own error."""
    with pytest.raises(UserCodeError) as caught:
        _returning(model_directory, _raising(Refusal(status, message)))

    assert caught.value.status == status
    assert caught.value.message == shown
    assert isinstance(caught.value.__cause__, Refusal)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        Refusal(200, "no"),
        Refusal(600, "no"),
        Refusal("400", "no"),
        Refusal(400, None),
        Refusal(None, "no"),
    ],
)
def test_any_other_exception_goes_on_as_it_is(
    model_directory: ModelDirectory, error: Exception
) -> None:
    """Raises it unchanged: the server answers 500 and logs the traceback."""
    with pytest.raises(type(error)) as caught:
        _returning(model_directory, _raising(error))

    assert caught.value is error


UNSUPPORTED = """
    class UnsupportedFormatError(Exception):
        pass

    class Mine(UnsupportedFormatError):
        def __init__(self, message):
            self.message = message

    def model_fn(model_dir):
        return 1

    def input_fn(data, content_type):
        if content_type == "a/b":
            raise Mine("a/b is not\\n    supported")
        if content_type == "c/d":
            raise UnsupportedFormatError("c/d is not supported")
        if content_type == "e/f":
            raise UnsupportedFormatError
        return data

    def predict_fn(data, model):
        return data

    def output_fn(prediction, accept):
        raise UnsupportedFormatError(f"{accept} is not supported")
"""


@pytest.mark.parametrize(
    ("content_type", "status", "message"),
    [
        ("a/b", 415, "a/b is not supported"),
        ("c/d", 415, "c/d is not supported"),
        ("e/f", 415, "the format is not supported"),
        ("text/csv", 406, "image/png is not supported"),
    ],
)
def test_unsupported_format_error_is_known_by_its_name(
    model_directory: ModelDirectory, content_type: str, status: int, message: str
) -> None:
    """Answers 415 to the exception of AWS's encoders and decoders (C-054)."""
    servable = model_directory.load(UNSUPPORTED)

    with pytest.raises(UserCodeError) as caught:
        servable.invoke(Invocation(b"1", content_type, "image/png"))

    assert (caught.value.status, caught.value.message) == (status, message)


def test_body_without_a_content_type_is_refused_with_the_type_it_was_read_as(
    model_directory: ModelDirectory,
) -> None:
    """Names the assumed type where the default decodes."""
    servable = model_directory.load("""
        model_fn = str

        def predict_fn(data, model):
            return data
    """)

    with pytest.raises(MalformedPayloadError, match="no Content-Type and was read as text/csv"):
        servable.invoke(Invocation(b"1,x"))


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), StopIteration(1)])
def test_what_would_end_the_thread_ends_the_invocation(
    model_directory: ModelDirectory, error: BaseException
) -> None:
    """Becomes a RuntimeError, with the original exception as its cause."""
    with pytest.raises(RuntimeError, match="the user's code raised") as caught:
        _returning(model_directory, _raising(error))

    assert caught.value.__cause__ is error


def test_empty_body_is_the_users_to_judge(model_directory: ModelDirectory) -> None:
    """Passes it to the user's function; without one it is 204 (C-058)."""
    assert model_directory.load(FOUR).invoke(Invocation(b"", "text/csv", "a/b")).body == (
        b"['', 'text/csv', 10, 'a/b']"
    )
    assert _returning(model_directory, "seen").body == b"seen"

    without_input_fn = "def model_fn(d): return 1\ndef predict_fn(d, m): return d"
    assert model_directory.load(without_input_fn).invoke(Invocation(b"")) == EMPTY


@pytest.mark.parametrize(
    ("accept", "body"),
    [("application/json", b"[1,2]\n"), ("text/csv", b"1\n2\n"), ("application/x-npy", None)],
)
def test_default_answers_of_a_batch_can_be_joined(
    model_directory: ModelDirectory, accept: str, body: bytes | None
) -> None:
    """Ends each default JSON and CSV answer with one newline, as without a script (C-073)."""
    script = "def model_fn(d): return 1\ndef predict_fn(d, m): return [1, 2]"
    invocation = Invocation(b"1", "text/csv", accept)

    answer = model_directory.load(script, is_batch=True).invoke(invocation)

    if body is None:
        assert answer == model_directory.load(script).invoke(invocation)._replace(
            stages=answer.stages
        )
    else:
        assert answer.body == body


def test_batch_leaves_what_the_users_code_has_written(model_directory: ModelDirectory) -> None:
    """Leaves bodies of the user's code unchanged."""
    servable = model_directory.load(ECHO, is_batch=True)

    assert servable.invoke(Invocation(b"{}", "application/json")).body == b"{}"


def test_selected_outputs_are_the_scripts_own_affair(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs a setting that has no effect (C-099)."""
    model_directory.load(ECHO, output_keys=("probability",))

    (record,) = (record for record in caplog.records if record.message == "setting_not_used")
    assert "SAGEMAKER_INFERENCE_OUTPUT" in record.reason


def test_defaults_read_predict_and_write(model_directory: ModelDirectory) -> None:
    """Predicts with the object of model_fn, and answers bare JSON."""
    servable = model_directory.load("""
        class Doubling:
            def predict(self, data):
                return data * 2

        def model_fn(model_dir):
            return Doubling()
    """)

    answer = servable.invoke(Invocation(b"1,2\n3,4\n", "text/csv"))

    assert json.loads(_body(answer)) == [[2.0, 4.0], [6.0, 8.0]]
    assert answer.content_type == "application/json"
    assert answer.n_rows == 2
    with pytest.raises(UnsupportedAcceptError, match="image/png"):
        servable.invoke(Invocation(b"1", "text/csv", "image/png"))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/html, text/*;q=0.1", "text/csv"),
        ("text/csv, application/json", "text/csv"),
        ("application/x-npy, text/csv", "application/x-npy"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv;q=0.1, */*", "application/json"),
    ],
)
def test_default_answer_is_the_best_of_what_is_accepted(
    model_directory: ModelDirectory, accept: str, content_type: str
) -> None:
    """Uses q-values, unlike the toolkit; the first of equals wins (C-056)."""
    servable = model_directory.load("def model_fn(d): pass\ndef predict_fn(d, m): return [1]")

    assert servable.invoke(Invocation(b"1", "text/csv", accept)).content_type == content_type


def test_generator_of_predict_fn_is_streamed_without_output_fn(
    model_directory: ModelDirectory,
) -> None:
    """Streams a generator of predict_fn without an encoder (C-065)."""
    servable = model_directory.load("""
        def predict_fn(data, model):
            yield "a"
            yield "b"

        def model_fn(model_dir):
            return None
    """)

    answer = servable.invoke(Invocation(b"1", "text/csv", "text/event-stream"))

    assert _streamed(answer) == [b"a", b"b"]
    assert answer.content_type == "text/event-stream"


def test_context_has_the_manifest_of_an_artifact(model_directory: ModelDirectory) -> None:
    """Has the manifest as a dictionary, empty without one."""
    script = """
        def transform_fn(model, data, content_type, accept, context):
            return context.manifest

        def model_fn(model_dir):
            return None
    """
    assert json.loads(_body(model_directory.load(script).invoke(Invocation(b"x")))) == {}

    facts = ModelFacts(framework=Framework(name="mine", version="1"), n_features=1)
    manifest.write(model_directory.path, "mine", facts)

    described = json.loads(_body(model_directory.load(script).invoke(Invocation(b"x"))))
    assert described["algorithm"] == "mine"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import no_such_package", "cannot be loaded: ModuleNotFoundError: .*; bring packages al"),
        ("def model_fn(model_dir:", "cannot be loaded: SyntaxError"),
        ("import sys; sys.exit(0)", "cannot be loaded: SystemExit: 0"),
        ("1 / 0", r"code/inference\.py cannot be loaded: ZeroDivisionError: division by zero"),
        ("def model_fn(d): raise OSError('gone')", "model_fn failed: OSError: gone"),
        ("def model_fn(d): raise SystemExit(0)", "model_fn failed: SystemExit: 0"),
        ("def pre_model_fn(d): 1 / 0", "pre_model_fn failed: ZeroDivisionError"),
        (
            "def model_warmup_fn(d, m): 1 / 0\ndef model_fn(d): return str\npredict_fn = max",
            "model_warmup_fn failed: ZeroDivisionError",
        ),
        ("def model_fn(d): return {}", r"of type dict, which has no predict\(data\)"),
        ("def predict_fn(d, m): return d", r"defines no model_fn\(model_dir\), and the model dir"),
        ("x = 1", "defines none of these functions"),
    ],
)
def test_script_that_cannot_be_used_is_a_reason_not_to_start(
    model_directory: ModelDirectory, script: str, reason: str
) -> None:
    """Says in one line what failed, with the user's exception as cause (C-061)."""
    with pytest.raises(ModelLoadError, match=reason):
        model_directory.load(script)


def test_default_accept_that_nothing_writes_is_a_reason_not_to_start(
    model_directory: ModelDirectory,
) -> None:
    """Accepts any default with an output_fn of the user's (C-056)."""
    script = "def model_fn(d): return str\ndef predict_fn(d, m): return [1]"
    servable = model_directory.load(script, default_accept="CSV")
    assert servable.invoke(Invocation(b"1", "text/csv")).body == b"1\n"

    with pytest.raises(
        SettingsError, match=r"'image/png' .* application/x-npy, or define output_fn"
    ):
        model_directory.load(script, default_accept="image/png")


def test_program_names_another_script(model_directory: ModelDirectory) -> None:
    """Loads the script that SAGEMAKER_PROGRAM names."""
    model_directory.write({"code/inference.py": "raise SystemExit('the wrong one')"})

    servable = model_directory.load(FOUR, program="sub/serving.py")

    assert servable.invoke(Invocation(b"1", "a/b", "a/b")).body == b"[b'1', 'a/b', 10, 'a/b']"


def test_code_without_a_script_is_passed_over(model_directory: ModelDirectory) -> None:
    """Serves a model artifact with training code in it (C-060)."""
    model_directory.write({"code/train.py": "", "xgboost-model": bytes(_booster().save_raw("ubj"))})

    assert isinstance(loading.inspect(model_directory.path, Settings()), loading.Artifact)


def test_loading_is_logged_with_script_and_type(
    model_directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs script and type of the model in one line."""
    caplog.set_level(logging.INFO)

    model_directory.load(FOUR)

    (record,) = (record for record in caplog.records if record.message == "model_loaded")
    assert (record.script, record.model) == ("code/inference.py", "int")


def test_what_the_code_prints_is_seen_at_once(
    model_directory: ModelDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs prints at once, also where Python would buffer them (C-008)."""
    file = tmp_path / "stdout"
    with file.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        model_directory.load("print('loading')\nmodel_fn = str\npredict_fn = max")

        assert file.read_text() == "loading\n"
