import asyncio
import json
import logging
import threading
import time

import pytest

from container.codecs.records import Floats, SparseRows
from container.errors import PredictionError
from serve.http.inference_app import InferenceApplication
from serve.invocation import ModelServable
from serve.runtime.latency import LatencyHeuristic
from tests.unit.serve.conftest import Client, Reply, Server, SumAlgorithm, SumModel

CSV = {"Content-Type": "text/csv"}


def _error(reply: Reply) -> dict[str, str]:
    assert reply.headers["content-type"] == "application/json"
    error: dict[str, str] = json.loads(reply.body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    return error


def test_ping_is_200_with_an_empty_body(client: Client) -> None:
    """Answers a ping with 200 and no body (C-044)."""
    assert client.request("GET", "/ping") == Reply(200, {"content-length": "0"}, b"")


def test_invocation_answers_with_type_and_length(client: Client) -> None:
    """Answers an invocation with its predictions, type and length (C-047, C-053)."""
    reply = client.request("POST", "/invocations", b"1,2\n", CSV)

    assert reply == Reply(200, {"content-type": "text/csv", "content-length": "4"}, b"3.0\n")


def test_body_in_many_parts_is_one_body(client: Client) -> None:
    """Joins a body that arrives in pieces cut anywhere (C-074)."""
    assert client.request("POST", "/invocations", [b"1", b",2\n3", b",4", b""], CSV).body == (
        b"3.0\n7.0\n"
    )


@pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "gzip"}])
def test_empty_body_gives_204(client: Client, encoding: dict[str, str]) -> None:
    """Answers an empty body with an empty answer (C-058)."""
    assert client.request("POST", "/invocations", b"", CSV | encoding).status == 204


def test_empty_body_gives_204_whatever_its_content_type(client: Client) -> None:
    """Answers so in a thread, as the first request, and inline, as the next one (C-058)."""
    headers = {"Content-Type": "text/nonsense"}

    for _ in range(2):
        assert client.request("POST", "/invocations", b"", headers).status == 204


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"1,2", {"Content-Type": "text/xml"}, 415, "unsupported_content_type"),
        (b"1,2", CSV | {"Accept": "text/html"}, 406, "unsupported_accept"),
        (b"1,x", CSV, 400, "malformed_payload"),
        (b"1", CSV, 400, "malformed_payload"),
        (b"1" * 1001, CSV, 413, "payload_too_large"),
        ([b"1" * 600, b"1" * 600], CSV, 413, "payload_too_large"),
        ([b"1", b"1"], CSV | {"Content-Length": "1001"}, 413, "payload_too_large"),
    ],
)
def test_bad_request_has_status_code_and_the_error_body(
    client: Client, body: bytes | list[bytes], headers: dict[str, str], status: int, code: str
) -> None:
    """Each refusal has a code and a reason in the same form (C-050, C-054, C-057)."""
    reply = client.request("POST", "/invocations", body, headers)

    assert reply.status == status
    assert _error(reply)["code"] == code


def test_too_large_body_closes_the_connection(client: Client) -> None:
    """The rest of an unread body would be parsed as the next request."""
    assert client.request("POST", "/invocations", b"1" * 1001, CSV).headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/invocations", "POST"), ("DELETE", "/ping", "GET, HEAD, POST")],
)
def test_wrong_method_is_405_and_names_the_right_ones(
    client: Client, method: str, path: str, allow: str
) -> None:
    """Answers a wrong method with 405 and the right ones (C-047)."""
    reply = client.request(method, path)

    assert reply.status == 405
    assert reply.headers["allow"] == allow
    assert _error(reply)["code"] == "method_not_allowed"


def test_head_is_refused_without_a_body(client: Client) -> None:
    """A reply to HEAD has no body, whatever its Content-Length."""
    reply = client.request("HEAD", "/invocations")

    assert reply.status == 405
    assert reply.body == b""


@pytest.mark.parametrize(
    "before", ["http://host:8080", "HTTP://host", "hTTpS://[::1]:8080", "/", "///", "http://host//"]
)
def test_absolute_form_and_slashes_at_the_beginning_are_the_path(
    client: Client, before: str
) -> None:
    """Absolute targets (RFC 9112, section 3.2.2) and repeated slashes mean the same path."""
    assert client.request("GET", f"{before}/ping").status == 200
    reply = client.request("POST", f"{before}/invocations", b"1,2\n", CSV)
    assert reply.body == b"3.0\n"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/Ping",
        "/invocations/",
        "/invocations//",
        "/x//invocations",
        "/%2Finvocations",
        "/models",
        "http://host",
        "http://host/x",
        "ftp://host/invocations",
        "x://invocations",
        "*",
    ],
)
def test_unknown_path_is_404(client: Client, path: str) -> None:
    """Flask answers errors in the same form as the hot path (C-047)."""
    reply = client.request("POST", path, b"1,2", CSV)

    assert reply.status == 404
    assert _error(reply)["code"] == "not_found"
    assert "POST /invocations, GET /execution-parameters or" in _error(reply)["message"]


def test_request_id_is_the_clients_own(client: Client) -> None:
    """The id of a failed request is in the answer and in the log."""
    headers = {"X-Amzn-SageMaker-Inference-Id": "mine-1", "Content-Type": "text/xml"}

    assert _error(client.request("POST", "/invocations", b"1", headers))["request_id"] == "mine-1"
    assert _error(client.request("POST", "/other", b"1", headers))["request_id"] == "mine-1"
    assert _error(client.request("GET", "/invocations", b"", headers))["request_id"] == "mine-1"


@pytest.mark.parametrize("bad", ["", "x" * 65, "a\tb", "a\x1bb"])
def test_request_id_unfit_to_log_is_replaced(client: Client, bad: str) -> None:
    """An id with control characters or of great length is replaced by a new one."""
    headers = {"X-Amzn-SageMaker-Inference-Id": bad, "Content-Type": "text/xml"}

    made = _error(client.request("POST", "/invocations", b"1", headers))["request_id"]

    assert made != bad
    assert len(made) == 32


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), PredictionError("no")])
def test_failing_model_is_500_and_the_server_lives(
    client: Client, model: SumModel, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback goes to the log and only there; the next request is answered."""
    model.error = error
    reply = client.request("POST", "/invocations", b"1,2", CSV)
    model.error = None

    assert reply.status == 500
    assert b"/secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)
    assert client.request("POST", "/invocations", b"1,2", CSV).body == b"3.0\n"


def test_client_that_goes_away_gets_no_answer(client: Client) -> None:
    """A request that ends early is dropped, and the next one is answered."""

    async def half() -> list[object]:
        sent: list[object] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
        await client.app(scope, receive, send)
        return sent

    assert asyncio.run(half()) == []
    assert client.request("POST", "/invocations", b"1,2", CSV).status == 200


def test_large_body_is_answered_as_a_small_one_is(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and errors of a thread are those of the event loop."""
    monkeypatch.setattr("serve.runtime.latency._MAX_BYTES", 2)

    assert client.request("POST", "/invocations", b"1,2\n", CSV).body == b"3.0\n"
    assert client.request("POST", "/invocations", b"1,x\n", CSV).status == 400


def test_every_invocation_is_one_log_line_and_a_ping_none(
    client: Client, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The access log has invocations, not pings."""
    caplog.set_level(logging.INFO)

    client.request("GET", "/ping")
    client.request("POST", "/invocations", b"1,2\n3,4\n", CSV)

    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert facts["event"] == "invocation"
    assert facts["status"] == 200
    assert facts["n_rows"] == 2
    assert facts["n_bytes"] == 8
    stages = facts["decode_ms"] + facts["predict_ms"] + facts["encode_ms"]
    assert 0 < stages < facts["duration_ms"]


def test_draining_fails_the_ping_and_still_answers_what_was_on_its_way(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests sent before the end of readiness are answered, later ones refused (C-062)."""
    assert client.app.begin_drain() is True
    assert client.app.begin_drain() is False

    assert client.request("GET", "/ping").status == 503
    assert client.request("POST", "/invocations", b"1,2", CSV).status == 200
    monkeypatch.setattr("serve.http.inference_app._LATE_ARRIVAL_SECONDS", 0)
    late = client.request("POST", "/invocations", b"1,2", CSV)
    assert late.status == 503
    assert late.headers["retry-after"] == "1"
    assert _error(late)["code"] == "shutting_down"


def test_drained_returns_when_the_last_request_is_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draining ends after the requests in flight."""
    monkeypatch.setattr("serve.http.inference_app._LATE_ARRIVAL_SECONDS", 0)

    async def scenario(app: InferenceApplication) -> list[str]:
        order: list[str] = []
        body_may_arrive = asyncio.Event()

        async def receive() -> dict[str, object]:
            await body_may_arrive.wait()
            return {"type": "http.request", "body": b"1,2", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            order.append(str(message["type"]))

        async def watch() -> None:
            await app.drained()
            order.append("drained")

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/invocations",
            "headers": [(b"content-type", b"text/csv")],
        }
        running = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        app.begin_drain()
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.1)
        assert order == []
        body_may_arrive.set()
        await asyncio.gather(running, watching)
        return order

    order = asyncio.run(scenario(client.app))

    assert order == ["http.response.start", "http.response.body", "drained"]


class SlowModel(SumModel):
    """Takes CPU time on the event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, features: Floats | SparseRows) -> Floats:
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return super().predict(features)


class Always(LatencyHeuristic):
    """Expects every invocation to be quick until `is_over`."""

    is_over = False

    def is_quick(self, n_bytes: int) -> bool:
        return not self.is_over


async def _finished(client: Client, n_invocations: int, order: list[str]) -> list[Reply]:
    """Invoke concurrently, then ping; `order` lists the answers in order."""

    async def send(method: str, path: str) -> Reply:
        reply = await client.send(method, path, b"1,2\n", CSV)
        order.append(f"{path} {reply.status}")
        return reply

    works = [send("POST", "/invocations") for _ in range(n_invocations)]
    return list(await asyncio.gather(*works, send("GET", "/ping")))


def test_ping_does_not_wait_for_the_quick_invocations_before_it(server: Server) -> None:
    """A burst is answered over many event loop iterations, and its excess refused (C-045)."""
    servable = ModelServable(SumAlgorithm(), SlowModel(0.002), "text/csv", latency=Always())
    client = server.client(servable, n_waiting=30)
    order: list[str] = []

    replies = asyncio.run(_finished(client, 60, order))

    assert order.index("/ping 200") < 20
    refused = [reply for reply in replies if reply.status == 503]
    assert 0 < len(refused) < 28
    assert order.count("/invocations 200") == 60 - len(refused)
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}
    # They were read whole, and their connections are good for another request.
    assert not any("connection" in reply.headers for reply in refused)


def test_invocations_that_wait_for_the_loop_go_to_threads_when_they_are_not_quick(
    server: Server,
) -> None:
    """Invocations queued behind a slow one are offloaded to threads (C-045)."""
    heuristic = Always()
    threads: list[str] = []

    class Told(SlowModel):
        def predict(self, features: Floats | SparseRows) -> Floats:
            threads.append(threading.current_thread().name)
            heuristic.is_over = len(threads) == 2
            return super().predict(features)

    servable = ModelServable(SumAlgorithm(), Told(0.02), "text/csv", latency=heuristic)
    order: list[str] = []

    asyncio.run(_finished(server.client(servable, n_waiting=30), 3, order))

    assert order.count("/invocations 200") == 3
    assert threads == ["MainThread", "MainThread", "invocation"]
