"""Multi-model endpoints from outside: the API, what it promises, and what it refuses."""

import http.client
import json
import socket
from urllib.parse import quote

import pytest

from local_test.invoke import ping
from tests.blackbox.multi_model.conftest import (
    CSV,
    JSON,
    ROW,
    Fleet,
    error_of,
    in_parallel,
    retried,
)
from tests.waiting import PATIENCE_SECONDS

LONG = "8f14e45fceea167a5a36dedd4bea2543" * 32  # 1,024 characters
NAMES = [
    "c4ca4238a0b923820dcc509a6f75849b",
    LONG,
    "with space+plus%percent",
    "a/b",
    "../../etc/passwd",
    "invoke",
    "x/invoke",
    "double//slash",
    "/leading",
    "/",
    "//",
    "/invoke",
    "trailing/",
    "?query=1#fragment",
    "ünïcödé ✓ 模型",
    "-leading",
    '"quoted\\',
]


def test_server_starts_without_any_model(fleet: Fleet) -> None:
    """The ping is 200 at once, and there is no model (C-078)."""
    assert ping(fleet.server.url).status == 200
    answer = fleet.request("GET", "/models")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"models": []}


@pytest.mark.canary
def test_loaded_model_answers_in_every_worker(fleet: Fleet) -> None:
    """200 means that any worker can invoke it, as by /invocations (C-079, C-084, C-086)."""
    fleet.write_constant("m", 4.0)

    loaded = fleet.load("m")
    answers = [fleet.invoke("m") for _ in range(20)]
    described = json.loads(fleet.describe("m").body)

    assert loaded.status == 200
    assert json.loads(loaded.body) == {"status": "Workers scaled"}
    assert {answer.status for answer in answers} == {200}
    assert {float(answer.body) for answer in answers} == {4.0}
    assert answers[0].headers["Content-Type"] == "text/csv"
    assert (described["modelName"], described["modelUrl"]) == ("m", fleet.url("m"))
    assert described["algorithm"] == "xgboost"
    assert 4096 <= described["memoryBytes"] < 200_000


def test_parameters_may_stand_in_the_query_as_for_multi_model_server(fleet: Fleet) -> None:
    """Accepts parameters in the query, as clients of multi-model-server send them (C-079)."""
    fleet.write_constant("m", 1.0)

    answer = fleet.request("POST", f"/models?model_name=m&url={quote(fleet.url('m'))}")

    assert answer.status == 200
    assert float(fleet.invoke("m").body) == 1.0


def test_chunked_body_is_read(fleet: Fleet) -> None:
    """A body without a length is one, too (C-079)."""
    fleet.write_constant("m", 1.0)
    connection = http.client.HTTPConnection(
        "127.0.0.1", fleet.server.port, timeout=PATIENCE_SECONDS
    )
    body = json.dumps({"model_name": "m", "url": fleet.url("m")}).encode()

    connection.request("POST", "/models", iter([body[:9], body[9:]]), JSON, encode_chunked=True)

    assert connection.getresponse().status == 200
    connection.close()


def test_slow_bodies_hold_up_no_load(fleet: Fleet) -> None:
    """More clients than threads that send a byte of their request, and no more (C-045)."""
    fleet.write_constant("m", 1.0)
    address = ("127.0.0.1", fleet.server.port)
    clients = [socket.create_connection(address, timeout=PATIENCE_SECONDS) for _ in range(300)]
    for client in clients:
        client.sendall(b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    try:
        assert fleet.load("m").status == 200
        assert float(fleet.invoke("m").body) == 1.0
    finally:
        for client in clients:
            client.close()


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("name", NAMES)
def test_name_is_opaque_and_never_a_path(fleet: Fleet, name: str) -> None:
    """Any name works in every route if it is percent-encoded (C-087)."""
    fleet.write_constant("m", 2.0)

    assert fleet.load(name, "m").status == 200
    assert fleet.names() == [name]
    assert json.loads(fleet.describe(name).body)["modelName"] == name
    assert float(fleet.invoke(name).body) == 2.0
    unloaded = fleet.unload(name)

    assert json.loads(unloaded.body) == {"status": f'Model "{name}" unregistered'}
    assert fleet.invoke(name).status == 404
    assert sorted(path.name for path in (fleet.ml.root / "models").iterdir()) >= ["m"]


def test_slashes_at_the_beginning_of_a_path_are_one(fleet: Fleet) -> None:
    """Clients that join urls send several; those of a name are its own (C-087)."""
    fleet.write_constant("m", 2.0)
    assert fleet.load("/m", "m").status == 200

    assert fleet.request("GET", "//models/%2Fm").status == 200
    assert float(fleet.request("POST", "//models/%2Fm/invoke", ROW, CSV).body) == 2.0
    assert fleet.request("POST", "/models//m/invoke", ROW, CSV).status == 404
    assert fleet.request("GET", "/models//m").status == 404
    assert json.loads(fleet.request("GET", "///models").body)["models"][0]["modelName"] == "/m"


@pytest.mark.parametrize("path", ["/models/%FF", "/models/%EF%BF", "/models/a/b"])
def test_path_that_is_no_name_means_no_model(fleet: Fleet, path: str) -> None:
    """A name in another spelling is another name (C-086, C-087)."""
    fleet.write_constant("m", 2.0)
    for name in ("\N{REPLACEMENT CHARACTER}", "a/b"):
        fleet.load(name, "m")

    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
        answer = fleet.request(method, path + suffix)
        assert answer.status == 404
        assert json.loads(answer.body)["type"] == "ModelNotFoundException"
    assert len(fleet.names()) == 2


def test_target_model_header_is_for_the_log_only(fleet: Fleet) -> None:
    """The name in the path is the one that counts (C-087)."""
    fleet.write_constant("a", 1.0)
    fleet.write_constant("b", 2.0)
    fleet.load("a")
    fleet.load("b")

    answer = fleet.invoke("a", **{"X-Amzn-SageMaker-Target-Model": "dir/b.tar.gz"})

    assert float(answer.body) == 1.0
    fleet.server.wait_for_output('"target_model":"dir/b.tar.gz"')


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a\0b", "line\nbreak", "x" * 1025, "é" * 513, 7, None, ["m"]]
)
def test_impossible_name_is_refused(fleet: Fleet, name: object) -> None:
    """400, and nothing is listed (C-082)."""
    fleet.write_constant("m", 2.0)
    body = json.dumps({"model_name": name, "url": fleet.url("m")}).encode()

    refused = fleet.request("POST", "/models", body, JSON)

    assert error_of(refused) == (400, "BadRequestException", "invalid_request")
    assert fleet.names() == []


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"m"', b"{}", b'{"model_name": "m"}', b"\xff"])
def test_malformed_request_is_refused(fleet: Fleet, body: bytes) -> None:
    """400 and what is wanted instead (C-082)."""
    refused = fleet.request("POST", "/models", body, JSON)

    assert error_of(refused) == (400, "BadRequestException", "invalid_request")


@pytest.mark.parametrize(
    "url",
    [
        "/etc",
        "/proc/self/environ",
        "/",
        "relative/path",
        "http://169.254.169.254/latest",
        "file:///etc",
        "s3://bucket/model",
        "{models}/../../../../etc",
        "{models}/link-out",
        "/opt/ml\0",
        7,
        "",
    ],
)
def test_url_outside_the_model_roots_is_refused(fleet: Fleet, url: object) -> None:
    """Refuses path traversal by dots and by links (C-082)."""
    link = fleet.ml.root / "models" / "link-out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    if isinstance(url, str):
        models = fleet.backend.path_inside(fleet.ml, fleet.ml.root / "models")
        url = url.replace("{models}", models)
    body = json.dumps({"model_name": "m", "url": url}).encode()

    refused = fleet.request("POST", "/models", body, JSON)

    assert error_of(refused)[0] == 400
    assert fleet.names() == []


def test_absent_directory_is_404_and_an_empty_one_400(fleet: Fleet) -> None:
    """A missing directory is 404, an empty one 400; neither is listed (C-082)."""
    fleet.path("empty").mkdir(parents=True)

    assert error_of(fleet.load("absent"))[:2] == (404, "ModelNotFoundException")
    assert error_of(fleet.load("empty")) == (400, "InvalidModelException", "model_load_failed")
    assert fleet.names() == []


def test_refusal_names_places_in_the_artifact_and_none_of_the_host(fleet: Fleet) -> None:
    """A model below the root, a manifest that is none, and code that looks elsewhere (C-082)."""
    fleet.write("below", {"model/xgboost-model": "", "._xgboost-model": ""})
    fleet.write("manifest", {"byoa-manifest.json/file": ""})
    fleet.write("code", {"code/inference.py": "open(__file__.replace('.py', '.json'))"})
    refused = {name: fleet.load(name) for name in ("below", "manifest", "code")}

    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 400)
    message = {name: json.loads(answer.body)["message"] for name, answer in refused.items()}
    assert "there is one in model/ (model/xgboost-model)" in message["below"]
    assert message["manifest"] == "byoa-manifest.json cannot be read: Is a directory"
    assert message["code"].endswith("No such file or directory: 'code/inference.json'")


def test_second_load_of_a_name_is_409_and_the_first_goes_on(fleet: Fleet) -> None:
    """The second load is 409, whatever its files are (C-080)."""
    fleet.write_constant("m", 1.0)
    fleet.write_constant("other", 2.0)
    fleet.load("m")

    refused = fleet.load("m", "other")

    assert error_of(refused) == (409, "ConflictStatusException", "model_already_loaded")
    assert json.loads(refused.body)["message"] == "Model m is already registered."
    assert {float(fleet.invoke("m").body) for _ in range(8)} == {1.0}


def test_of_many_loads_of_one_name_at_once_one_is_200(fleet: Fleet) -> None:
    """All others are 409, and the model answers (C-090)."""
    fleet.write_constant("m", 1.0)

    answers = in_parallel(50, lambda _: fleet.load("m"))

    assert sorted(answer.status for answer in answers) == [200] + [409] * 49
    assert float(fleet.invoke("m").body) == 1.0


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_unknown_model_is_404(fleet: Fleet, method: str) -> None:
    """Uses the message of multi-model-server (C-084, C-085, C-086)."""
    route = "/models/none/invoke" if method == "POST" else "/models/none"

    answer = fleet.request(method, route, b"1,2,3" if method == "POST" else None, CSV)

    assert error_of(answer) == (404, "ModelNotFoundException", "model_not_found")
    assert json.loads(answer.body)["message"] == "Model not found: none"


def test_invocations_without_a_name_are_404(fleet: Fleet) -> None:
    """POST /invocations names no model (C-086)."""
    answer = fleet.request("POST", "/invocations", ROW, CSV)

    assert answer.status == 404
    assert "POST /models/NAME/invoke" in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("PUT", "/models"),
        ("DELETE", "/models"),
        ("PUT", "/models/m"),
        ("POST", "/models/m"),
        ("GET", "/models/m/invoke"),
        ("DELETE", "/models/m/invoke"),
    ],
)
def test_wrong_method_is_405(fleet: Fleet, method: str, route: str) -> None:
    """An invocation is a POST; there is nothing to scale (C-086)."""
    answer = fleet.request(method, route)

    assert answer.status == 405
    assert "Allow" in answer.headers


def test_bad_invocation_is_refused_as_by_a_single_model(fleet: Fleet) -> None:
    """415, 406, 400 and 204 mean the same, and the worker lives (C-086)."""
    fleet.write_constant("m", 1.0)
    fleet.load("m")
    before = fleet.processes("worker")

    assert fleet.invoke("m", b"1,2").status == 400
    assert fleet.invoke("m", b"a,b,c").status == 400
    assert fleet.invoke("m", b"").status == 204
    assert fleet.invoke("m", Accept="image/png").status == 406
    refused = fleet.invoke("m", **{"Content-Type": "text/xml"})

    assert error_of(refused)[::2] == (415, "unsupported_content_type")
    assert fleet.processes("worker") == before


def test_list_comes_in_pages(fleet: Fleet) -> None:
    """Each model is on one page, also if others come and go between pages (C-083)."""
    fleet.write_constant("m", 1.0)
    names = sorted(f"model-{index:02}" for index in range(25))
    for name in names:
        assert fleet.load(name, "m").status == 200
    found: list[str] = []
    route = "/models?limit=10"
    sizes = []
    while route:
        page = json.loads(fleet.request("GET", route).body)
        assert all(model.keys() == {"modelName", "modelUrl"} for model in page["models"])
        found += [model["modelName"] for model in page["models"]]
        sizes.append(len(page["models"]))
        if len(sizes) == 1:  # what is on the first page is gone when the second one is asked for
            fleet.unload(names[9])
        token = page.get("nextPageToken")
        route = f"/models?limit=10&next_page_token={quote(token)}" if token else ""

    assert found == names
    assert sizes == [10, 10, 5]
    assert len(json.loads(fleet.request("GET", "/models?limit=1000").body)["models"]) == 24
    assert fleet.request("GET", "/models?limit=0").status == 400
    assert fleet.request("GET", "/models?limit=x").status == 400
    assert fleet.request("GET", "/models?next_page_token=***").status == 400


def test_deleted_model_is_gone_in_every_worker(fleet: Fleet) -> None:
    """After the answer no worker invokes the model, and all have freed it (C-085)."""
    fleet.write_constant("m", 1.0)
    fleet.load("m")
    in_parallel(8, lambda _: fleet.invoke("m"))

    assert fleet.unload("m").status == 200

    assert {fleet.invoke("m").status for _ in range(20)} == {404}
    assert fleet.unload("m").status == 404
    assert fleet.metrics()["byoa_resident_models"] == 0


def test_update_under_the_same_name_never_mixes_answers(fleet: Fleet) -> None:
    """Unloaded and loaded again, every worker serves the new files, ten times over (C-088)."""
    for version in range(1, 11):
        fleet.write_constant("m", float(version))
        assert fleet.load("m").status == 200
        answers = in_parallel(8, lambda _: fleet.invoke("m"))
        assert {(answer.status, float(answer.body)) for answer in answers} == {(200, version)}
        assert fleet.unload("m").status == 200


def test_files_that_change_under_a_loaded_model_are_not_served(one_worker_fleet: Fleet) -> None:
    """A worker that has to load them says so; what it has in memory it goes on with (C-088)."""
    fleet = one_worker_fleet
    fleet.write_constant("m", 1.0)
    fleet.load("m")
    fleet.write_constant("m", 2.0)

    assert float(fleet.invoke("m").body) == 1.0
    fleet.kill("worker")
    refused = retried(lambda: fleet.invoke("m"))

    assert error_of(refused)[0] == 500
    assert "have changed since it was loaded" in json.loads(refused.body)["message"]
    assert fleet.unload("m").status == 200
    assert fleet.load("m").status == 200
    assert float(fleet.invoke("m").body) == 2.0
