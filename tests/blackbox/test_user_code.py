"""A model that brings its own code, from outside: `code/inference.py` in the model directory."""

import json
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend
from local_test.datasets import TabularDataset
from local_test.invoke import Response, invoke, ping
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.blackbox.log_lines import wait_for_lines
from tests.waiting import PATIENCE_SECONDS

CUSTOM = "X-Amzn-SageMaker-Custom-Attributes"
ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}

FOUR = """
    import json
    from pathlib import Path

    def model_fn(model_dir):
        return json.loads((Path(model_dir) / "weights.json").read_text())

    def input_fn(input_data, content_type):
        return [float(cell) for cell in input_data.split(",")]

    def predict_fn(data, model):
        return sum(cell * weight for cell, weight in zip(data, model))

    def output_fn(prediction, accept):
        return json.dumps({"total": prediction, "accept": accept})
"""
# Does what the body says, so that one server shows it all.
OBEDIENT = """
    import os
    import sys
    import time

    class Refused(Exception):
        def __init__(self, status_code, message, phrase):
            self.status_code, self.message, self.phrase = status_code, message, phrase

    def model_fn(model_dir):
        return "model"

    def times(n):
        for _ in range(n):
            yield f"{time.time()}\\n"
            time.sleep(1)

    def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            print("the endless stream was closed", flush=True)

    def failing(after):
        for index in range(after):
            yield "piece\\n"
        raise ValueError("secret of the stream")

    def transform_fn(model, data, content_type, accept, context):
        command, _, argument = data.decode().partition(" ")
        name = "X-Amzn-SageMaker-Custom-Attributes"
        if command == "sleep":
            time.sleep(float(argument))
        elif command == "stream":
            return times(int(argument)), "text/event-stream"
        elif command == "endless-stream":
            return endless(), "text/plain"
        elif command == "failing-stream":
            return failing(int(argument))
        elif command == "raise":
            raise ValueError("secret of the model")
        elif command == "refuse":
            raise Refused(int(argument), "no such animal", "nope")
        elif command == "exit":
            sys.exit(int(argument))
        elif command == "die":
            os._exit(int(argument))
        elif command == "print":
            print(argument)
        elif command == "set":
            context.set_response_header(0, name, argument)
        elif command == "inject":
            context.set_response_header(0, name, "a" + chr(13) + chr(10) + "X-Injected: 1")
        elif command == "no-body":
            context.set_response_status(204)
        elif command == "seen":
            return context.get_request_header(0, name) or "nothing"
        return data, "text/plain"
"""


def _model(directory: Path, files: Mapping[str, str]) -> MlTree:
    ml = MlTree(directory / "served").create()
    for name, text in files.items():
        file = ml.model_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return ml


def _error(response: Response) -> dict[str, str]:
    assert response.headers["Content-Type"] == "application/json"
    error: dict[str, str] = json.loads(response.body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    return error


@pytest.fixture(scope="module")
def obedient(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of OBEDIENT, shared by the tests that do not disturb it."""
    ml = _model(tmp_path_factory.mktemp("obedient"), {"code/inference.py": OBEDIENT})
    with backend.start_server(ml, environment=ONE_WORKER) as server:
        yield server


@pytest.fixture
def command(obedient: RunningServer) -> Callable[..., Response]:
    def send(text: str, **headers: str) -> Response:
        return invoke(obedient.url, text.encode(), content_type="text/plain", headers=headers)

    return send


@pytest.mark.canary
def test_four_functions_answer(backend: Backend, tmp_path: Path) -> None:
    """The model is the user's own, and its directory is only read (C-047, C-053, C-059)."""
    ml = _model(tmp_path, {"weights.json": "[2, 3]", "code/inference.py": FOUR})
    before = ml.model_files()

    with backend.start_server(ml) as server:
        response = invoke(server.url, b"1,10", content_type="text/csv; charset=utf-8")
        as_asked = invoke(server.url, b"1,10", accept="application/x-mine")

    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.body) == {"total": 32, "accept": "application/json"}
    assert as_asked.headers["Content-Type"] == "application/x-mine"
    assert ml.model_files() == before


def test_one_function_of_the_users_and_the_rest_as_without(
    backend: Backend,
    trained: Trained,
    tmp_path: Path,
    cancer: TabularDataset,
    features: np.ndarray,
) -> None:
    """Loads the algorithm's model without a model_fn, and answers in the user's form."""
    script = """
        def output_fn(prediction, accept):
            return "".join(f"<p>{score:.6f}</p>" for score in prediction), "text/html"
    """
    ml = _model(tmp_path, {"code/inference.py": script})
    for file in trained.ml.model_dir.iterdir():
        (ml.model_dir / file.name).write_bytes(file.read_bytes())
    with backend.start_server(ml) as server:
        response = invoke(server.url, cancer.payload)
        narrow = invoke(server.url, b"1,2,3")

    scores = response.text.replace("<p>", "").split("</p>")[:-1]
    assert response.headers["Content-Type"] == "text/html"
    np.testing.assert_allclose(
        np.array(scores, dtype=np.float32), trained.expected(features), atol=2e-6
    )
    assert narrow.status == 400


def test_program_is_a_setting(backend: Backend, tmp_path: Path) -> None:
    """SAGEMAKER_PROGRAM names the script; without that file there is no server. Requirements are
    not installed, as the log says once, whatever the number of workers (C-007).
    """
    files = {"weights.json": "[2]", "code/serving.py": FOUR, "code/inference.py": "1 / 0"}
    ml = _model(tmp_path, files | {"code/requirements.txt": "polars"})
    two_workers = {"SAGEMAKER_PROGRAM": "serving.py", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}

    with backend.start_server(ml, environment=two_workers) as server:
        assert invoke(server.url, b"4").status == 200
    assert server.output().count("requirements_not_installed") == 1
    assert "pip install --target code/lib" in server.output()
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, environment={"SAGEMAKER_PROGRAM": "other.py"})

    assert caught.value.exit_code == 1
    assert "no file code/other.py" in caught.value.output
    assert "inference.py, serving.py" in caught.value.output


def test_stream_arrives_while_it_is_made(obedient: RunningServer) -> None:
    """Chunked, and each piece is here before the next one is made (C-065)."""
    with socket.create_connection(("127.0.0.1", obedient.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n"
            b"Content-Type: text/plain\r\n\r\nstream 4"
        )
        received, arrivals = b"", []
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += client.recv(65536)
            arrivals.append(time.time())

    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-type: text/event-stream" in head.lower()
    made = [float(line) for line in body.split(b"\r\n")[1:-2:2]]
    assert len(made) == 4
    assert arrivals[0] < made[3]  # three seconds later


def test_stream_whose_reader_stalls_and_leaves_holds_nobody_up(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """The code stops, and its thread is free for the next one."""
    with socket.create_connection(("127.0.0.1", obedient.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n"
            b"Content-Type: text/plain\r\n\r\nendless-stream"
        )
        client.recv(1000)
        time.sleep(1)  # until nothing more of it can be sent

    assert command("hello").body == b"hello"
    obedient.wait_for_output("the endless stream was closed")


def test_error_before_the_first_piece_is_an_ordinary_error(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """Answers 500 before the first piece (C-066)."""
    response = command("failing-stream 0")

    assert response.status == 500
    assert _error(response)["code"] == "internal_error"
    assert "secret" not in response.text


def test_error_after_the_first_piece_cuts_the_connection(obedient: RunningServer) -> None:
    """Half an answer does not look like a whole one (C-066)."""
    with socket.create_connection(("127.0.0.1", obedient.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n"
            b"Content-Type: text/plain\r\n\r\nfailing-stream 2"
        )
        received = b"".join(iter(lambda: client.recv(65536), b""))

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(b"piece\n") == 2
    assert not received.endswith(b"0\r\n\r\n")
    assert b"secret" not in received
    obedient.wait_for_output("secret of the stream")


def test_exception_is_500_and_its_traceback_is_in_the_log_only(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """The id of the reply finds the traceback in the log."""
    response = command("raise", **{"X-Amzn-SageMaker-Inference-Id": "failed-7"})

    assert response.status == 500
    error = _error(response)
    assert error["request_id"] == "failed-7"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    (line,) = wait_for_lines(obedient, lambda line: line.get("request_id") == "failed-7")
    assert "secret of the model" in line["exc_info"]
    assert "in transform_fn" in line["exc_info"]


@pytest.mark.parametrize("status", [400, 422, 503])
def test_exception_with_a_status_is_answered_with_it(
    command: Callable[..., Response], status: int
) -> None:
    """Answers as for the toolkit's BaseInferenceToolkitError, without a stack trace."""
    response = command(f"refuse {status}")

    assert response.status == status
    assert _error(response)["message"] == "no such animal"


def test_sys_exit_ends_the_invocation_only(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """The same worker goes on."""
    before = obedient.process_ids()

    assert command("exit 0").status == 500
    assert command("exit 3").status == 500

    assert command("hello").body == b"hello"
    assert obedient.process_ids() == before


def test_custom_attributes_come_back_only_when_the_code_sets_them(
    command: Callable[..., Response],
) -> None:
    """Never echoes them, however often they are sent (C-052)."""
    silent = command("hello", **{CUSTOM: "trace=1"})
    set_by_code = command("set trace=2; x", **{CUSTOM: "trace=1"})
    seen = command("seen", **{CUSTOM: "trace=1"})

    assert CUSTOM not in silent.headers
    assert set_by_code.headers.get_all(CUSTOM) == ["trace=2; x"]
    assert seen.text == "trace=1"
    assert CUSTOM not in seen.headers


@pytest.mark.parametrize("text", ["inject", f"set {'x' * 1025}", "set größe"])
def test_custom_attributes_that_cannot_be_sent_are_an_error(
    command: Callable[..., Response], text: str
) -> None:
    """Printable ASCII, at most 1,024 characters, and nothing injected (C-052)."""
    response = command(text)

    assert response.status == 500
    assert "X-Injected" not in response.headers
    assert CUSTOM not in response.headers


def test_longest_custom_attributes_are_sent(command: Callable[..., Response]) -> None:
    """1,024 characters, the limit of the platform (C-052)."""
    assert command(f"set {'x' * 1024}").headers[CUSTOM] == "x" * 1024


def test_what_the_code_prints_is_in_the_log_at_once(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """`print` is neither buffered nor lost (C-008)."""
    command("print mark-4711")

    obedient.wait_for_output("mark-4711")


def test_ping_is_answered_while_the_code_sleeps(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """One worker, whose only thread for user code is busy, and more waits behind it (C-045)."""
    slow = [threading.Thread(target=command, args=("sleep 2",)) for _ in range(2)]
    for thread in slow:
        thread.start()
    time.sleep(0.2)

    durations = []
    while any(thread.is_alive() for thread in slow):
        started = time.monotonic()
        assert ping(obedient.url).status == 200
        durations.append(time.monotonic() - started)
        time.sleep(0.05)

    assert len(durations) > 3
    assert max(durations) < 2


def test_process_that_the_code_ends_costs_one_invocation(
    command: Callable[..., Response], obedient: RunningServer
) -> None:
    """`os._exit` ends neither the worker nor `/ping`, and the model comes back."""
    ended = command("die 7")
    pinged = ping(obedient.url)
    next_one = command("hello")

    assert ended.status == 500
    assert _error(ended)["code"] == "model_crashed"
    assert "exit code 7" in _error(ended)["message"]
    assert pinged.status == 200
    assert next_one.body == b"hello"
    assert obedient.output().count("Booting worker") == 1


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("import sys\nsys.exit(0)", "code/inference.py cannot be loaded: SystemExit: 0"),
        ("def model_fn(model_dir):\n    raise OSError('gone')", "model_fn failed: OSError: gone"),
    ],
)
def test_code_that_fails_to_load_ends_the_server_with_the_reason(
    backend: Backend, tmp_path: Path, script: str, reason: str
) -> None:
    """Ends at once, without repeated starts (C-061, C-063)."""
    ml = _model(tmp_path, {"code/inference.py": script})

    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, environment=ONE_WORKER, ready_timeout_seconds=PATIENCE_SECONDS)

    lines = [json.loads(line) for line in caught.value.output.splitlines() if line[:1] == "{"]
    (failure,) = (line for line in lines if line["event"] == "server_failed")
    assert caught.value.exit_code == 3
    assert reason in failure["reason"]
    assert "Traceback" in failure["exc_info"]


def test_users_files_shadow_nothing(backend: Backend, tmp_path: Path) -> None:
    """Ours, Python's and the installed modules win; the log names what is hidden."""
    decoys = ("train", "serve", "container", "json", "numpy", "gunicorn", "asyncio")
    script = """
        import json
        import numpy
        import helpers
        from vendored import constant

        def model_fn(model_dir):
            return None

        def transform_fn(model, data, content_type, accept):
            return json.dumps([helpers.double(len(data)), constant, int(numpy.int64(1))])
    """
    files = {f"code/{name}.py": "raise SystemExit('the decoy was run')" for name in decoys}
    files |= {
        "code/inference.py": script,
        "code/helpers.py": "def double(number):\n    return 2 * number",
        "code/lib/vendored.py": "constant = 7",
        "code/requirements.txt": "vendored",
    }
    ml = _model(tmp_path, files)
    with backend.start_server(ml) as server:
        response = invoke(server.url, b"abc", content_type="text/plain")
        server.stop()

    assert json.loads(response.body) == [6, 7, 1]
    assert "the decoy was run" not in server.output()
    hidden = next(line for line in server.output().splitlines() if "user_modules_hidden" in line)
    assert json.loads(hidden)["names"] == sorted(decoys)


@pytest.mark.docker_cases(0)
def test_model_that_takes_longer_to_load_than_an_invocation_may_take(
    backend: Backend, tmp_path: Path
) -> None:
    """Serves it: SAGEMAKER_MODEL_SERVER_TIMEOUT limits invocations, not loading."""
    script = """
        import time

        def model_fn(model_dir):
            time.sleep(4)
            return "loaded"

        def transform_fn(model, data, content_type, accept):
            return model
    """
    ml = _model(tmp_path, {"code/inference.py": script})
    environment = ONE_WORKER | {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}
    with backend.start_server(ml, environment=environment) as server:
        assert invoke(server.url, b"x", content_type="text/plain").text == "loaded"
        server.stop()

    assert "WORKER TIMEOUT" not in server.output()


def test_default_functions_of_a_scikit_learn_model(backend: Backend, tmp_path: Path) -> None:
    """The client's mistakes are 400, with nothing of its records (C-053, C-057, C-073)."""
    script = """
        from pathlib import Path

        class Linear:
            n_features_in_ = 3

            def predict(self, rows):
                if rows.dtype.kind not in "if" or (rows != rows).any():
                    raise ValueError(f"secret of the records: {rows}")
                return rows.sum(axis=1)

        def model_fn(model_dir, scale=1):
            assert scale == 1
            return Linear()
    """
    ml = _model(tmp_path, {"code/inference.py": script})
    environment = ONE_WORKER | {"SAGEMAKER_BATCH": "yes", "SAGEMAKER_CONTAINER_LOG_LEVEL": "INFO"}
    with backend.start_server(ml, environment=environment) as server:

        def send(body: bytes) -> Response:
            return invoke(server.url, body, content_type="application/json")

        one, two = send(b"[1, 2, 3]"), send(b"[[1, 2, 3], [4, 5, 6]]")
        bodies = [b"[1, 2]", b"[[1, 2]]", b'["a"]', b'[["a", "b", "c"]]', b"[[1, null, 3]]"]
        refused = [send(body) for body in bodies]

    assert (one.body, two.body) == (b"[6]\n", b"[6,15]\n")
    for response in refused:
        assert response.status == 400
        assert _error(response)["code"] == "malformed_payload"
        assert "secret" not in response.text
    assert "secret" not in server.output()


def test_code_that_was_submitted_in_another_directory(backend: Backend, tmp_path: Path) -> None:
    """SAGEMAKER_SUBMIT_DIRECTORY and SAGEMAKER_PROGRAM as the SDK writes them."""
    script = """
        import beside
        import serving

        def model_fn(model_dir):
            return serving.__name__

        def transform_fn(model, data, content_type, accept):
            return f"{model} {beside.value}"
    """
    ml = _model(tmp_path, {"src/deep/serving.py": script, "src/deep/beside.py": "value = 7"})
    environment = {
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/src",
        "SAGEMAKER_PROGRAM": "deep/serving.py",
    }
    with backend.start_server(ml, environment=environment | ONE_WORKER) as server:
        assert invoke(server.url, b"x", content_type="text/plain").text == "serving 7"


def test_status_without_a_body_keeps_the_connection_in_step(obedient: RunningServer) -> None:
    """Bytes after a 204 would be read as the beginning of the next answer."""
    with socket.create_connection(("127.0.0.1", obedient.port), timeout=PATIENCE_SECONDS) as client:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
        client.sendall(head + b"Content-Type: text/plain\r\n\r\nno-body")
        client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))

    assert received.startswith(b"HTTP/1.1 500 ")
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert b"no-body" not in received
    obedient.wait_for_output("7 bytes were returned with status 204")
