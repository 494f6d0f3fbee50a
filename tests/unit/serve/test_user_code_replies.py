"""Replies and log lines of user code, through the whole application without sockets."""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from serve.invocation import Answer, Invocation
from serve.user_code.servable import ScriptServable
from tests.unit.serve.conftest import Client, ModelDirectory, Reply, Server
from tests.waiting import PATIENCE_SECONDS, until

SCRIPT = """
    import sys
    import threading

    model_fn = str

    class Refused(Exception):
        def __init__(self, status_code, message, phrase=""):
            self.status_code, self.message = status_code, message

    def transform_fn(model, data, content_type, accept, context):
        match data.decode():
            case "id":
                return context.get_request_id(0)
            case "thread":
                return threading.current_thread().name
            case "error":
                raise ValueError("/secret/path")
            case "exit":
                sys.exit(3)
            case "refused":
                raise Refused(422, "a name is missing")
            case "failed":
                raise Refused(503, "the data base is away")
            case "header":
                context.set_response_header(0, "X-Mine", "a" + chr(10) + "b")
        return data
"""


@pytest.fixture
def scripted(model_directory: ModelDirectory, server: Server) -> Client:
    return server.client(model_directory.load(SCRIPT))


def _post(client: Client, body: bytes) -> Reply:
    return client.request("POST", "/invocations", body, {"X-Amzn-SageMaker-Inference-Id": "mine-7"})


def _error(reply: Reply) -> dict[str, str]:
    error: dict[str, str] = json.loads(reply.body)["error"]
    return error


def test_request_id_of_the_context_is_that_of_the_reply_and_the_log(
    scripted: Client, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The request id is the same everywhere."""
    caplog.set_level(logging.INFO)

    assert _post(scripted, b"id").body == b"mine-7"

    assert json.loads(capsys.readouterr().out)["request_id"] == "mine-7"


def test_code_runs_in_a_thread_and_always_the_same(scripted: Client) -> None:
    """User code runs in a thread, never on the event loop (C-045)."""
    names = {_post(scripted, b"thread").body for _ in range(3)}

    assert names == {b"invocation"}


@pytest.mark.parametrize("body", [b"error", b"exit", b"header"])
def test_exception_is_500_with_an_id_and_the_traceback_in_the_log_only(
    scripted: Client, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of user code fails one invocation, and the next is answered."""
    reply = _post(scripted, body)

    assert reply.status == 500
    assert _error(reply) == {
        "code": "internal_error",
        "message": "the invocation failed; see the log",
        "request_id": "mine-7",
    }
    (record,) = (record for record in caplog.records if record.message == "invocation")
    assert record.request_id == "mine-7"
    text = logging.Formatter().format(record)
    assert "inference.py" in text
    assert "in transform_fn" in text
    assert _post(scripted, b"fine").body == b"fine"


def test_exception_with_a_status_is_that_status_with_its_message(
    scripted: Client, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal of user code is one log line without a traceback."""
    caplog.set_level(logging.INFO)

    reply = _post(scripted, b"refused")

    assert reply.status == 422
    assert _error(reply) == {
        "code": "refused_by_user_code",
        "message": "a name is missing",
        "request_id": "mine-7",
    }
    line = json.loads(capsys.readouterr().out)
    assert (line["status"], line["reason"]) == (422, "a name is missing")
    assert not any(record.exc_info for record in caplog.records)


def test_exception_with_a_status_of_5xx_has_its_traceback_in_the_log(
    scripted: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A 5xx of user code has its traceback in the log."""
    assert _post(scripted, b"failed").status == 503

    (record,) = (record for record in caplog.records if record.message == "invocation")
    assert "in transform_fn" in logging.Formatter().format(record)


class Streaming:
    """Streams the test's pieces in the thread of user code."""

    is_thread_safe = False
    has_own_formats = True
    limits_itself = False

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces

    def may_run_inline(self, invocation: Invocation) -> bool:
        return False

    def invoke(self, invocation: Invocation) -> Answer:
        return Answer(self._pieces(), "text/plain")


def test_stream_of_a_client_that_has_gone_is_closed_in_the_users_own_thread(server: Server) -> None:
    """A generator is closed in its thread, not on the event loop."""
    closed_in: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed_in.append(threading.current_thread().name)

    client = server.client(Streaming(pieces))
    client.leaves_after_its_body = True
    client.request("POST", "/invocations", b"x")

    assert closed_in == ["invocation"]


def test_invocation_that_waits_for_a_long_stream_does_not_end_the_worker(server: Server) -> None:
    """Requests behind a long stream are refused beyond the queue (C-065)."""
    has_begun, may_end = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        has_begun.set()
        yield b"a"
        assert may_end.wait(PATIENCE_SECONDS)
        yield b"b"

    client = server.client(Streaming(pieces), timeout_seconds=0.3)

    async def scenario() -> tuple[Reply, Reply]:
        first = asyncio.create_task(client.send("POST", "/invocations", b"x"))
        await until(has_begun.is_set)
        second = await client.send("POST", "/invocations", b"x")
        may_end.set()
        return await first, second

    first, second = asyncio.run(scenario())

    assert first.body == b"ab"
    assert second.status == 503
    assert server.n_retired == 0


def test_stream_whose_next_piece_never_comes_has_its_worker_replaced(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that hangs has its worker replaced."""
    monkeypatch.setattr("serve.http.responses.STREAM_SECONDS", 0.1)
    may_end = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"a"
        may_end.wait(PATIENCE_SECONDS)

    client = server.client(Streaming(pieces), timeout_seconds=0.1)

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await client.send("POST", "/invocations", b"x")
        await until(lambda: server.n_retired)

    asyncio.run(scenario())

    may_end.set()
    assert server.n_retired == 1


def test_stream_that_goes_on_and_on_is_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream ends after 8 minutes, and the worker goes on (C-065)."""
    monkeypatch.setattr("serve.http.responses.STREAM_SECONDS", 0.1)

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x"

    client = server.client(Streaming(pieces))

    with pytest.raises(TimeoutError, match=r"longer than 0\.1 s"):
        client.request("POST", "/invocations", b"x")

    assert server.n_retired == 0


def test_script_is_loaded_by_the_name_that_a_traceback_shows(
    model_directory: ModelDirectory,
) -> None:
    """Imports the script's file itself."""
    servable = model_directory.load(SCRIPT)

    assert isinstance(servable, ScriptServable)
    assert sys.modules["inference"].__file__ == str(model_directory.path / "code" / "inference.py")
