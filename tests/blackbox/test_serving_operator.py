"""Observation of a server: log lines, `/metrics`, CloudWatch metrics in the log."""

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_test.backends import Backend, ProcessBackend
from local_test.datasets import TabularDataset
from local_test.invoke import invoke, ping, send
from local_test.ml_tree import MlTree
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.blackbox.log_lines import Line, log_lines, wait_for_lines
from tests.blackbox.processes import kill, wait_for_workers
from tests.waiting import wait_for

FAILING_CODE = """
def model_fn(model_dir):
    return None
def transform_fn(model, input_data, content_type, accept):
    if input_data == "fail":
        raise RuntimeError("of no use to a client")
    return input_data, "text/plain"
"""


@pytest.fixture(scope="module")
def failing(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that fails when it is told to, and logs CloudWatch metrics; stopped by its test."""
    ml = MlTree(tmp_path_factory.mktemp("failing") / "ml").create()
    (ml.model_dir / "code").mkdir()
    (ml.model_dir / "code" / "inference.py").write_text(FAILING_CODE)
    environment = {"BYOA_EMF_NAMESPACE": "Leads/Serving", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    with backend.start_server(ml, environment=environment) as server:
        yield server


def _is_invocation(line: Line) -> bool:
    return line["event"] == "invocation"


@pytest.mark.canary
def test_every_invocation_is_one_line_with_what_it_took(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """The id is the client's or a new one, also in errors; pings and scrapes leave no line.

    Two workers write the lines, after their answers: they are told apart by id, not by order.
    """
    with backend.start_server(trained.ml) as server:
        invoke(server.url, cancer.payload, headers={"X-Amzn-SageMaker-Inference-Id": "mine-7"})
        refused = invoke(server.url, b"1,2,3", content_type="Text/CSV; charset=utf-8")
        unread = invoke(server.url, b"x", content_type="image/png")
        invoke(server.url, cancer.payload * 100)  # in a thread
        for _ in range(20):
            ping(server.url)
        send(server.url, "GET", "/metrics")
        lines = {line["request_id"]: line for line in wait_for_lines(server, _is_invocation, 4)}
        n_lines = len(log_lines(server))
        server.stop()

    answered = lines.pop("mine-7")
    malformed = lines.pop(json.loads(refused.body)["error"]["request_id"])
    unsupported = lines.pop(json.loads(unread.body)["error"]["request_id"])
    (large,) = lines.values()
    assert (answered["status"], answered["content_type"]) == (200, "text/csv")
    assert (answered["n_rows"], answered["n_bytes"]) == (114, len(cancer.payload))
    steps = [answered[f"{step}_ms"] for step in ("queue", "decode", "predict", "encode")]
    assert all(step > 0 for step in steps[1:])
    assert sum(steps) <= answered["duration_ms"]
    assert (malformed["status"], malformed["code"]) == (400, "malformed_payload")
    assert malformed["content_type"] == "Text/CSV; charset=utf-8"
    assert unsupported["status"] == 415
    assert large["queue_ms"] > 0
    assert len(log_lines(server)) - n_lines < 10  # gunicorn's own, of the end


def test_invocation_that_fails_is_an_error_with_its_traceback(failing: RunningServer) -> None:
    """Logs the traceback in one line, for the operator alone."""
    reply = invoke(failing.url, b"fail", headers={"X-Amzn-SageMaker-Inference-Id": "failing-1"})

    (line,) = wait_for_lines(failing, lambda line: line.get("request_id") == "failing-1")
    assert reply.status == line["status"] == 500
    assert line["level"] == "ERROR"
    assert "RuntimeError: of no use to a client" in line["exc_info"]
    assert "of no use" not in reply.text


_UNITS = frozenset({"Count", "Microseconds", "Milliseconds", "Seconds", "Bytes", "Percent"})


def _assert_valid_emf(line: dict[str, Any]) -> None:
    """By the schema in the CloudWatch user guide, "Specification: Embedded metric format"."""
    about = line["_aws"]
    assert isinstance(about["Timestamp"], int)
    assert abs(about["Timestamp"] / 1000 - time.time()) < 600
    assert about["CloudWatchMetrics"]
    for directive in about["CloudWatchMetrics"]:
        assert re.fullmatch(r"[\w.\-/#:]{1,255}", directive["Namespace"])
        assert directive["Dimensions"]
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            assert all(isinstance(line[name], str) for name in dimensions)
        assert 0 < len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric["Unit"] in _UNITS
            assert isinstance(line[metric["Name"]], int | float)


def test_cloudwatch_metrics_are_valid_whatever_the_outcome(failing: RunningServer) -> None:
    """A good answer, a refused request and a failure, each counted as what it is."""
    counted = {}
    for name, options in (
        ("good", {"body": b"x"}),
        ("refused", {"body": b"\xff", "content_type": "application/json"}),
        ("failed", {"body": b"fail"}),
    ):
        identity = {"X-Amzn-SageMaker-Inference-Id": f"emf-{name}"}
        invoke(failing.url, headers=identity, **options)  # type: ignore[arg-type]
        (line,) = wait_for_lines(
            failing, lambda line, name=name: line.get("request_id") == f"emf-{name}"
        )
        _assert_valid_emf(line)
        counted[name] = tuple(
            line[metric] for metric in ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")
        )
        assert line["ModelLatency"] == pytest.approx(1000 * line["duration_ms"], abs=1)

    assert counted == {"good": (1, 0, 0), "refused": (1, 1, 0), "failed": (1, 0, 1)}


def test_no_cloudwatch_metrics_unless_asked_for(
    server: RunningServer, post: Callable[..., Any], cancer: TabularDataset
) -> None:
    """Writes none by default, since they cost money."""
    post(cancer.payload, headers={"X-Amzn-SageMaker-Inference-Id": "not-emf"})

    (line,) = wait_for_lines(server, lambda line: line.get("request_id") == "not-emf")
    assert "_aws" not in line
    assert "_aws" not in server.output()


def _scrape_until(server: RunningServer, name: str, value: float) -> list[dict[str, float]]:
    """Twenty scrapes in a row, once one shows the value: an answer is counted when it is out."""
    wait_for(lambda: _scrape(server)[name] == value)
    return [_scrape(server) for _ in range(20)]


def _scrape(server: RunningServer) -> dict[str, float]:
    response = send(server.url, "GET", "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_are_those_of_all_workers_dead_ones_included(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """Whichever worker is asked: the sum, before and after one of them is killed."""
    line = cancer.payload.splitlines(keepends=True)[0]
    with backend.start_server(
        trained.ml, environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "3"}
    ) as server:
        with ThreadPoolExecutor(12) as clients:
            statuses = list(clients.map(lambda _: invoke(server.url, line * 2).status, range(300)))
            statuses += clients.map(lambda _: invoke(server.url, b"1,2").status, range(60))
        before = _scrape_until(server, "byoa_invocation_seconds_count", 360)
        kill(server, wait_for_workers(server, 3)[0])
        server.wait_until_ready()
        invoke(server.url, line)
        after = _scrape_until(server, "byoa_invocation_seconds_count", 361)
        names = {line["logger"] for line in log_lines(server)}

    assert sorted(set(statuses)) == [200, 400]
    for scraped in before:
        assert scraped["byoa_invocations_total/200"] == 300
        assert scraped["byoa_invocations_total/400"] == 60
        assert scraped["byoa_records_total"] == 600
        assert scraped["byoa_invocation_seconds_count"] == 360
        assert scraped["byoa_invocation_seconds_bucket/+Inf"] == 360
        assert 0 < scraped["byoa_invocation_seconds_sum"] < 60
    for scraped in after:
        assert scraped["byoa_invocations_total/200"] == 301
        assert scraped["byoa_invocations_total/400"] == 60
        assert scraped["byoa_records_total"] == 601
    assert "werkzeug" not in names


def test_metrics_are_asked_for_with_get(server: RunningServer) -> None:
    """Any other method is refused in the form of all errors."""
    response = send(server.url, "POST", "/metrics", b"")

    assert response.status == 405
    assert json.loads(response.body)["error"]["code"] == "method_not_allowed"


def test_log_is_written_at_once_and_a_line_at_a_time(
    server: RunningServer, cancer: TabularDataset
) -> None:
    """Lines of workers that write at the same time do not mix (C-008)."""
    connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(4)]
    with ThreadPoolExecutor(4) as clients:
        for connection in connections:
            clients.submit(_send_many, connection, cancer.payload.splitlines()[0], 100)

    whole = server.output().rpartition("\n")[0]
    for line in whole.splitlines():
        json.loads(line)


def _send_many(connection: http.client.HTTPConnection, body: bytes, count: int) -> None:
    for _ in range(count):
        connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
        connection.getresponse().read()
    connection.close()


NOBODY_READS = """
import os, sys
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
os.close(writer)
os.execv(sys.executable, [sys.executable, "-m", "container", *sys.argv[1:]])
"""


def test_standard_output_that_nobody_reads_does_not_stop_the_server(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """Every write fails with EPIPE, and the answers still come."""
    if not isinstance(backend, ProcessBackend):
        pytest.skip("a container's output is the engine's")
    deaf = replace(backend, command=(sys.executable, "-c", NOBODY_READS))
    with deaf.start_server(trained.ml) as server:
        for _ in range(5):
            assert invoke(server.url, cancer.payload).status == 200
        stopped = server.stop()

    assert stopped.ended_by == "SIGTERM"
    assert "Traceback" not in server.output()
