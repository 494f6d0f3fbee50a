"""Deviations of multi-model-server from the rules, which this image cannot change.

docs/contract_rules.toml has the list, which docs/contract.md shows beside the tests. Where a test
here fails, a line may go.
"""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from local_test.invoke import ping, send
from tests.blackbox.models_api.conftest import Start
from tests.blackbox.models_api.models import CSV, SLEEPS, Models
from tests.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow

STREAMS = """
    import time

    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        yield "first"
        time.sleep(1)
        yield "second"
"""
LOADS_WHEN_TOLD = """
    import time
    from pathlib import Path

    def model_fn(model_dir):
        (Path(model_dir) / "begun").touch()
        while not (Path(model_dir) / "go").exists():
            time.sleep(0.01)

    def transform_fn(model, data, content_type, accept):
        return "loaded"
"""
DIES_FOR_GOOD = """
    import os
    from pathlib import Path

    def model_fn(model_dir):
        if (Path(model_dir) / "dead").exists():
            os._exit(3)

    def transform_fn(model, data, content_type, accept):
        os._exit(3)
"""


def test_ping_has_a_body(models: Models) -> None:
    """The state of the workers, in words (C-044)."""
    assert json.loads(ping(models.server.url).body) == {"status": "Healthy"}


@pytest.mark.docker_cases(0)
def test_ping_is_200_when_no_worker_is_left(start: Start) -> None:
    """It says Unhealthy, with status 200 (C-046)."""
    with (models := start()).server:
        directory = models.write("m", DIES_FOR_GOOD)
        models.load("m")
        (directory / "dead").touch()
        models.invoke("m")

        wait_for(lambda: json.loads(ping(models.server.url).body)["status"] == "Unhealthy")

        assert ping(models.server.url).status == 200


@pytest.mark.docker_cases(0)
def test_ping_is_200_after_sigterm(start: Start) -> None:
    """Answers pings with 200 while it finishes requests (C-046)."""
    with (models := start()).server, ThreadPoolExecutor(1) as pool:
        models.write("m", SLEEPS)
        models.load("m")
        call = pool.submit(models.invoke, "m", b"2")
        models.server.wait_for_output("sleeps 2.0", PATIENCE_SECONDS)
        models.server.terminate()
        time.sleep(0.3)

        assert ping(models.server.url).status == 200
        assert call.result().status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_any_method_invokes(models: Models, method: str) -> None:
    """405 is for routes of the management alone (C-047)."""
    models.write_tree("any-method", 1)
    models.load("any-method")

    answer = send(models.server.url, method, "/models/any-method/invoke", b"1,2", headers=CSV)

    assert answer.status == 200


def test_headers_beyond_8_kib_are_refused(models: Models) -> None:
    """150 of them pass, and 190 do not (C-051)."""
    models.write_tree("headers", 1)
    models.load("headers")

    def is_refused(count: int) -> bool:
        headers = {f"X-Unknown-{index:03}": "v" * 30 for index in range(count)}
        try:
            status = models.invoke("headers", headers={**CSV, **headers}).status
        except ConnectionError:  # it has not read all of them when it closes
            return True
        assert status in (200, 400)
        return status == 400

    assert not is_refused(150)
    assert is_refused(190)


def test_errors_of_the_server_have_a_form_of_their_own(models: Models) -> None:
    """Errors of the server differ in form from those of a model (C-057)."""
    assert set(json.loads(models.invoke("unknown").body)) == {"code", "type", "message"}


@pytest.mark.docker_cases(0)
def test_request_that_is_still_arriving_at_sigterm_is_cut(start: Start) -> None:
    """A request that no worker has received yet is not in flight (C-062)."""
    with (models := start()).server:
        models.write_tree("m", 1)
        models.load("m")
        with socket.create_connection(
            ("127.0.0.1", models.server.port), timeout=PATIENCE_SECONDS
        ) as client:
            client.sendall(
                b"POST /models/m/invoke HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                b"Content-Type: text/csv\r\n\r\n1,"
            )
            time.sleep(0.3)

            assert models.server.stop().exit_code == 0
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""


def test_stream_is_sent_whole(models: Models) -> None:
    """Sends a streamed answer once its last piece is there (C-065)."""
    models.write("streams", STREAMS)
    models.load("streams")
    asked_at = time.monotonic()

    answer = models.invoke("streams")

    assert answer.text == "firstsecond"
    assert answer.headers["Content-Length"] == "11"
    assert time.monotonic() - asked_at > 1


def test_execution_parameters_are_not_there(models: Models) -> None:
    """GET /execution-parameters and GET /metrics are 404 (C-069)."""
    assert send(models.server.url, "GET", "/execution-parameters").status == 404
    assert send(models.server.url, "GET", "/metrics").status == 404


def test_load_that_asks_for_no_worker_is_200(models: Models) -> None:
    """Parameters of its own may be sent, some of which make a model that cannot answer (C-079)."""
    models.write_tree("no-worker", 1)
    url = models.url(models.directory("no-worker"))

    loaded = models.post({"model_name": "no-worker", "url": url, "initial_workers": 0})

    assert loaded.status == 200
    assert models.invoke("no-worker").status == 503
    models.unload("no-worker")


def test_load_that_fails_does_not_say_why(models: Models) -> None:
    """The reason is in the log (C-082)."""
    models.directory("silent").mkdir(parents=True)

    answer = models.load("silent")

    assert json.loads(answer.body)["message"] == "Failed to start workers"
    models.server.wait_for_output("files found: none")


def test_load_with_broken_json_is_500(models: Models) -> None:
    """The error carries a message of Java's (C-082)."""
    assert models.post(b"{").status == 500


def test_full_last_page_has_a_token(models: Models) -> None:
    """A full last page has a token of an empty page; an unknown token means the first page
    (C-083).
    """
    models.write_tree("last", 1)
    models.load("last")
    names = models.names()

    last = json.loads(models.page(f"?limit={len(names)}").body)

    assert [model["modelName"] for model in last["models"]] == names
    query = f"?limit={len(names)}&next_page_token={last['nextPageToken']}"
    assert json.loads(models.page(query).body) == {"models": []}
    assert json.loads(models.page("?next_page_token=never-given").body)["models"]


def test_unload_cuts_what_is_being_answered(models: Models) -> None:
    """An unload does not wait for the invocations of the model (C-085)."""
    models.write("cut", SLEEPS)
    models.load("cut")

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(models.invoke, "cut", b"3")
        models.server.wait_for_output("sleeps 3.0", PATIENCE_SECONDS)
        assert models.unload("cut").status == 200
        assert call.result().status == 500


def test_name_with_a_slash_is_listed_and_cannot_be_reached(models: Models) -> None:
    """Decodes the path before splitting it, so a name with a slash is not found (C-087)."""
    directory = models.write_tree("slash", 1)

    assert models.load("a/b", directory).status == 200

    assert "a/b" in models.names()
    assert models.invoke("a/b").status == 404
    assert models.unload("a/b").status == 404


@pytest.mark.docker_cases(0)
def test_waiting_line_that_is_full_names_no_time_to_try_again(start: Start) -> None:
    """503 without Retry-After; BYOA_MAX_WAITING is each model's (C-077)."""
    with (models := start(BYOA_MAX_WAITING="1")).server, ThreadPoolExecutor(4) as pool:
        models.write("m", SLEEPS)
        models.load("m")
        models.invoke("m", b"0")

        answers = list(pool.map(lambda _: models.invoke("m", b"1"), range(4)))

        refused = [answer for answer in answers if answer.status == 503]
        assert refused
        assert {answer.headers["Retry-After"] for answer in refused} == {None}


def test_load_whose_model_is_unloaded_before_it_ends_is_500(models: Models) -> None:
    """The unload is 200, since the model is listed from the beginning of its load (C-108)."""
    directory = models.write("unloaded-early", LOADS_WHEN_TOLD)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(models.load, "unloaded-early")
        try:
            wait_for((directory / "begun").exists)
            assert models.describe("unloaded-early").status == 200
            assert models.unload("unloaded-early").status == 200
        finally:
            (directory / "go").touch()

        assert load.result().status == 500
