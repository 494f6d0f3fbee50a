"""`serve` from outside, by the rules of the platform."""

import bz2
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend, DockerBackend, ProcessBackend
from local_test.datasets import TabularDataset
from local_test.invoke import Response, invoke, ping, send
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.blackbox.processes import listening_ports, wait_for_workers
from tests.waiting import PATIENCE_SECONDS, wait_for

Post = Callable[..., Response]


@pytest.fixture(scope="module")
def small_bodies(backend: Backend, trained: Trained) -> Iterator[RunningServer]:
    """Takes bodies of up to 1 MB, answers JSON by default, and has a variable that is none of its
    settings.
    """
    environment = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/json",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "ANYTHING": "ü\n=%s",
    }
    with backend.start_server(trained.ml, environment=environment) as running:
        yield running


def _scores(response: Response) -> np.ndarray:
    assert response.status == 200, response.text
    if response.headers["Content-Type"] == "text/csv":
        return np.array(response.text.split(), dtype=np.float32)
    return np.array([row["score"] for row in json.loads(response.body)["predictions"]])


def _error(response: Response) -> dict[str, str]:
    assert response.headers["Content-Type"] == "application/json"
    error: dict[str, str] = json.loads(response.body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert "Traceback" not in response.text
    return error


@pytest.mark.canary
def test_ping_is_200_with_an_empty_body(server: RunningServer) -> None:
    """Answers 200 only when it can serve (C-002, C-044, C-046)."""
    response = ping(server.url)

    assert response.status == 200
    assert response.body == b""


@pytest.mark.canary
@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/csv", "application/json", "Application/JSON"]
)
def test_predictions_equal_xgboost_called_directly(
    post: Post, trained: Trained, cancer: TabularDataset, features: np.ndarray, accept: str | None
) -> None:
    """All rows, in order, to 1e-6; the type is the one asked for (C-047, C-053, C-056, C-098)."""
    response = post(cancer.payload, accept=accept)

    np.testing.assert_allclose(_scores(response), trained.expected(features), atol=1e-6)
    wants_json = accept is not None and "json" in accept.lower()
    expected_type = "application/json" if wants_json else "text/csv"
    assert response.headers["Content-Type"] == expected_type
    assert int(response.headers["Content-Length"]) == len(response.body)


def test_best_iteration_is_served(post: Post, trained: Trained, cancer: TabularDataset) -> None:
    """An early-stopped model predicts with its best round, as its manifest says."""
    manifest = json.loads((trained.ml.model_dir / "byoa-manifest.json").read_text())
    best = manifest["model"]["best_iteration"]
    rows = np.array(
        [line.split(",") for line in cancer.payload.decode().splitlines()], dtype=np.float32
    )
    import xgboost

    expected = trained.booster.predict(xgboost.DMatrix(rows), iteration_range=(0, best + 1))

    assert best + 1 < 50
    np.testing.assert_allclose(_scores(post(cancer.payload)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "content_type", ["text/csv", "Text/CSV", "csv", "text/csv; charset=utf-8; label_size=0"]
)
def test_content_type_is_matched_with_parameters_in_any_case(
    post: Post, cancer: TabularDataset, content_type: str
) -> None:
    """Case and parameters of a content type do not matter (C-055)."""
    assert post(cancer.payload, content_type=content_type).status == 200


@pytest.mark.parametrize("ending", [b"\r\n", b"\n", b""])
def test_lines_may_end_in_any_way(post: Post, cancer: TabularDataset, ending: bytes) -> None:
    """CRLF, and a last line without a newline, give one prediction a record (C-072)."""
    lines = cancer.payload.splitlines()[:3]
    body = (b"\r\n" if ending == b"\r\n" else b"\n").join(lines) + ending

    assert len(_scores(post(body))) == 3


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("n_lines", [1, 7, 50, 113])
def test_answers_to_cuts_of_a_file_can_be_joined(
    post: Post, cancer: TabularDataset, n_lines: int
) -> None:
    """Mini-batches of any size join byte by byte to the whole answer (C-072, C-073, C-075)."""
    lines = cancer.payload.splitlines(keepends=True)
    whole = post(cancer.payload).body

    cuts = (b"".join(lines[i : i + n_lines]) for i in range(0, len(lines), n_lines))

    assert b"".join(post(cut).body for cut in cuts) == whole
    assert post(cancer.payload).body == whole


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("body", "options", "status", "code"),
    [
        (b"1,2", {"content_type": "text/xml"}, 415, "unsupported_content_type"),
        (b"1,2", {"content_type": "application/x-www-form-urlencoded"}, 415, None),
        (b"1,2", {"accept": "image/png"}, 406, "unsupported_accept"),
        (b"1,2,3\n", {}, 400, "malformed_payload"),
        (b",".join([b"1"] * 31), {}, 400, "malformed_payload"),
        (b",".join([b"x"] * 30), {}, 400, "malformed_payload"),
        (b"\x00\xff\xfe" * 50, {}, 400, "malformed_payload"),
        (b"\n\n\n", {}, 400, "malformed_payload"),
        (b'"' * 999, {}, 400, "malformed_payload"),
        (b"1 0:1 99:1\n", {"content_type": "text/libsvm"}, 400, "malformed_payload"),
        (b"[" * 100_000, {}, 400, "malformed_payload"),
    ],
)
def test_bad_request_is_4xx_and_the_worker_lives(
    server: RunningServer,
    post: Post,
    cancer: TabularDataset,
    body: bytes,
    options: dict[str, str],
    status: int,
    code: str | None,
) -> None:
    """The error body says what is wrong; the same processes answer the next one (C-054, C-057)."""
    before = server.process_ids()

    response = post(body, **options)

    assert response.status == status
    assert _error(response)["code"] == (code or "unsupported_content_type")
    assert post(cancer.payload).status == 200
    assert server.process_ids() == before


@pytest.mark.canary
def test_malformed_cell_is_named_by_line_and_column(post: Post, cancer: TabularDataset) -> None:
    """The error names the place, and quotes nothing of the payload (C-057)."""
    rows = [line.split(b",") for line in cancer.payload.splitlines()]
    rows[4][6] = b"secret-text"

    message = _error(post(b"\n".join(b",".join(row) for row in rows)))["message"]

    assert message.startswith("line 5, column 7: ")
    assert "secret" not in message


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("make", "content_type", "message"),
    [
        (lambda body: body, None, "the request has no Content-Type and was read as text/libsvm"),
        (lambda body: body, "text/libsvm", "this looks like CSV, not text/libsvm"),
        (lambda body: b"a," * 29 + b"a\n" + body, "text/csv", "line 1: the line is a header"),
        (lambda body: body.replace(b",", b";").replace(b".", b","), "text/csv", "decimal comma"),
        (bz2.compress, "application/json", "this is a bzip2 file"),
        (lambda body: body.replace(b"\n", b",\n"), "text/csv", "every line ends in a separator"),
        (lambda body: b"0," + body.replace(b"\n", b"\n0,")[:-2], "text/csv", "label_size=1"),
    ],
)
def test_refusal_names_the_kind_of_the_fault(
    post: Post,
    cancer: TabularDataset,
    make: Callable[[bytes], bytes],
    content_type: str | None,
    message: str,
) -> None:
    """The error names the kind of the fault and its cure over HTTP (C-057)."""
    response = post(make(cancer.payload), content_type=content_type)

    assert response.status == 400
    assert message in _error(response)["message"]


@pytest.mark.parametrize("name", ["application/x-ndjson", "application/jsonl"])
def test_json_lines_go_by_several_names(post: Post, cancer: TabularDataset, name: str) -> None:
    """Accepts them as the type of a request and of its answer (C-055, C-056)."""
    body = b"".join(b"[%b]\n" % line for line in cancer.payload.splitlines())

    response = post(body, content_type=name, accept=name)

    assert response.status == 200
    assert len(response.body.splitlines()) == len(cancer.payload.splitlines())


def test_empty_body_gives_204(post: Post) -> None:
    """Answers 204 to an empty body (C-058)."""
    response = post(b"")

    assert response.status == 204
    assert response.body == b""


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_give_405(server: RunningServer, method: str) -> None:
    """`Allow` names the one method of /invocations (C-047)."""
    response = send(server.url, method, "/invocations")

    assert response.status == 405
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("route", ["/", "/nope", "/Invocations", "/invocations/x", "/%70ing/"])
def test_unknown_paths_give_404(server: RunningServer, route: str) -> None:
    """Case and a trailing slash of a path count (C-047)."""
    response = send(server.url, "POST", route, b"1,2")

    assert response.status == 404
    assert _error(response)["code"] == "not_found"


def test_many_unknown_headers_are_ignored(post: Post, cancer: TabularDataset) -> None:
    """Ignores unknown headers, however many (C-051)."""
    headers = {f"X-Custom-{index}": "v" * 50 for index in range(300)}

    assert post(cancer.payload, headers=headers).status == 200


def test_custom_attributes_do_not_come_back_unasked(post: Post, cancer: TabularDataset) -> None:
    """The header is the container's to set, and it does not (C-052)."""
    response = post(cancer.payload, headers={"X-Amzn-SageMaker-Custom-Attributes": "trace=1"})

    assert "X-Amzn-SageMaker-Custom-Attributes" not in response.headers


def test_chunked_body_is_read_in_full(
    server: RunningServer, cancer: TabularDataset, trained: Trained, features: np.ndarray
) -> None:
    """Transfer-Encoding: chunked, pieces cut in the middle of numbers (C-074)."""
    pieces = (cancer.payload[i : i + 1000] for i in range(0, len(cancer.payload), 1000))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/invocations", pieces, {"Content-Type": "text/csv"})

    answer = connection.getresponse().read()

    connection.close()
    np.testing.assert_allclose(
        np.array(answer.split(), dtype=np.float32), trained.expected(features), atol=1e-6
    )


def test_large_bodies_are_accepted(post: Post, cancer: TabularDataset) -> None:
    """6,291,456 bytes and 25 MB (C-050)."""
    line = cancer.payload.splitlines(keepends=True)[0]
    for n_bytes in (6_291_456, 25_000_000):
        n_rows = n_bytes // len(line)
        response = post(line * n_rows)
        assert response.status == 200
        assert response.body.count(b"\n") == n_rows


def test_payload_limit_is_a_setting(small_bodies: RunningServer) -> None:
    """One byte over gives 413, declared or chunked, and the next request is answered (C-050)."""
    over = b"1" * (2**20 + 1)
    response = invoke(small_bodies.url, over)
    assert response.status == 413
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB" in _error(response)["message"]

    connection = http.client.HTTPConnection(
        "127.0.0.1", small_bodies.port, timeout=PATIENCE_SECONDS
    )
    pieces = iter([over[: 2**19], over[2**19 :]])
    connection.request("POST", "/invocations", pieces, {"Content-Type": "text/csv"})
    assert connection.getresponse().status == 413
    connection.close()
    assert invoke(small_bodies.url, b"1").status == 400


def test_advice_keeps_to_the_payload_limit(small_bodies: RunningServer) -> None:
    """Never advises a larger body than is accepted (C-070)."""
    advice = json.loads(send(small_bodies.url, "GET", "/execution-parameters").body)

    assert (advice["MaxConcurrentTransforms"], advice["MaxPayloadInMB"]) == (2, 1)


def test_default_accept_is_a_setting(small_bodies: RunningServer, cancer: TabularDataset) -> None:
    """SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT answers */* and no Accept at all (C-056)."""
    for accept in (None, "*/*"):
        response = invoke(small_bodies.url, cancer.payload, accept=accept)
        assert response.headers["Content-Type"] == "application/json"
    answer = invoke(small_bodies.url, cancer.payload, accept="text/csv")
    assert answer.body.count(b"\n") == 114


def test_port_is_8080_unless_bound_elsewhere(
    backend: Backend, trained: Trained, server: RunningServer
) -> None:
    """Listens on SAGEMAKER_BIND_TO_PORT, and nowhere else (C-041, C-042)."""
    if isinstance(backend, DockerBackend):
        # The backend publishes 8080 unless the variable says otherwise.
        assert ping(server.url).status == 200
        environment = {"SAGEMAKER_BIND_TO_PORT": "18081"}
        with backend.start_server(trained.ml, environment=environment) as other:
            assert ping(other.url).status == 200
            assert listening_ports(other) == {18081}
    else:
        assert listening_ports(server) == {server.port}


def test_model_directory_is_only_read(backend: Backend, trained: Trained) -> None:
    """Files, times and names are as before; in Docker it is mounted read-only (C-059)."""
    before = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in trained.ml.model_dir.iterdir()
    }

    with backend.start_server(trained.ml) as server:
        invoke(server.url, b"1")

    assert before == {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in trained.ml.model_dir.iterdir()
    }


def _model_tree(tmp_path: Path, files: dict[str, bytes]) -> MlTree:
    ml = MlTree(tmp_path / "served").create()
    for name, content in files.items():
        (ml.model_dir / name).write_bytes(content)
    return ml


def test_foreign_files_beside_the_model_are_skipped(
    backend: Backend, trained: Trained, tmp_path: Path, cancer: TabularDataset
) -> None:
    """A bare xgboost-model without a manifest, among files of other systems (C-060)."""
    model = (trained.ml.model_dir / "xgboost-model").read_bytes()
    files = {"xgboost-model": model, "._xgboost-model": b"x", ".DS_Store": b"x", "notes.md": b"x"}
    ml = _model_tree(tmp_path, files)

    with backend.start_server(ml) as server:
        assert invoke(server.url, cancer.payload).status == 200


@pytest.mark.canary
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no model"),
        ({"xgboost-model": b""}, "it is empty"),
        ({"byoa-manifest.json": b"{}", "xgboost-model": b"{}"}, "byoa-manifest.json"),
    ],
)
def test_missing_or_broken_model_ends_the_server_with_the_reason(
    backend: Backend, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    """Ends instead of a 200 ping over a model that cannot answer (C-061)."""
    ml = _model_tree(tmp_path, files)

    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, ready_timeout_seconds=PATIENCE_SECONDS)

    assert caught.value.exit_code == 1
    assert message in caught.value.output


def test_bad_setting_ends_the_server_with_the_reason(
    backend: Backend, trained: Trained, small_bodies: RunningServer
) -> None:
    """Judges only the variables that are settings, and names the bad one (C-064)."""
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "many", "ANYTHING": "ü\n=%s"}
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(
            trained.ml, environment=environment, ready_timeout_seconds=PATIENCE_SECONDS
        )
    assert "SAGEMAKER_MODEL_SERVER_WORKERS='many'" in caught.value.output

    assert ping(small_bodies.url).status == 200  # which has the other variable, too


def test_taken_port_ends_the_server_with_the_reason(trained: Trained, tmp_path: Path) -> None:
    """Ends instead of serving on another port."""
    # Saved by the XGBoost of this process: the image's may be newer than that of process mode.
    ml = _model_tree(tmp_path, {"xgboost-model": bytes(trained.booster.save_raw())})
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - as the server binds
        port = str(taken.getsockname()[1])
        server = ProcessBackend().start_server(
            ml, environment={"SAGEMAKER_BIND_TO_PORT": port}, wait_until_ready=False
        )
        exit_code = server.wait(PATIENCE_SECONDS)
        server.close()

    assert exit_code != 0
    assert "in use" in server.output()


def _reading(server: RunningServer, n_bytes: int) -> socket.socket:
    """A connection on which the server has begun to read a body of so many bytes."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {n_bytes}\r\n"
    client.sendall(head.encode() + b"Content-Type: text/csv\r\nExpect: 100-continue\r\n\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += client.recv(100)
    assert received.startswith(b"HTTP/1.1 100 ")
    return client


def _pinged(server: RunningServer) -> int:
    """The status of a ping, 0 where its worker left in the middle of it."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ping(server.url).status
    return 0


@pytest.mark.canary
def test_sigterm_finishes_what_is_in_flight(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """A request whose body is still arriving is answered; then the exit code is 0 (C-062)."""
    answers: list[bytes] = []
    half = len(cancer.payload) // 2
    with backend.start_server(trained.ml) as server:
        client = _reading(server, len(cancer.payload))
        client.sendall(cancer.payload[:half])
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)

        def finish() -> None:
            time.sleep(1.5)
            client.sendall(cancer.payload[half:])
            while piece := client.recv(65536):
                answers.append(piece)

        late = threading.Thread(target=finish)
        late.start()
        stopped = server.stop(grace_seconds=30)
        late.join()
        client.close()
        idle.close()

    answer = b"".join(answers)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.partition(b"\r\n\r\n")[2].count(b"\n") == 114
    assert stopped.ended_by == "SIGTERM"
    assert stopped.exit_code == 0
    assert stopped.duration_seconds < 20


def test_sigterm_turns_the_ping_to_503_while_work_is_left(
    backend: Backend, trained: Trained
) -> None:
    """Refuses new traffic by its ping while it finishes requests (C-046, C-062)."""
    with backend.start_server(trained.ml) as server:
        client = _reading(server, 5)
        client.sendall(b"1,2")
        server.terminate()
        # Each worker answers for itself: ask often enough to have asked them all.
        wait_for(lambda: {_pinged(server) for _ in range(20)} == {503})
        client.sendall(b",3")
        answer = client.recv(65536)
        client.close()
        exit_code = server.wait(PATIENCE_SECONDS)

    assert answer.startswith(b"HTTP/1.1 400")
    assert exit_code == 0


def test_cgroup_decides_the_number_of_workers(trained: Trained, image: str) -> None:
    """A container that is granted half a CPU runs one worker, not one for each of the host."""
    backend = DockerBackend(image, ("--cpus", "0.5", "--memory", "512m"))

    with backend.start_server(trained.ml) as server:
        wait_for_workers(server, 1)
