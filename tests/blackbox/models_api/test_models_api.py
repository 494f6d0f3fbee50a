"""The `/models` API from outside, by the rules of the platform, with every engine.

What multi-model-server does otherwise is in `test_multi_model_server_deviations.py`.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from local_test.backends import PROGRAM_DIR
from local_test.invoke import ping, send
from tests.blackbox.models_api.conftest import Start
from tests.blackbox.models_api.models import CSV, SLEEPS, Models, predicted, score, tree
from tests.waiting import PATIENCE_SECONDS, wait_for

# Each as soon as it is part of the product.
ENGINES = [
    engine
    for engine, package in (("gunicorn", "models"), ("mms", "mms"))
    if (PROGRAM_DIR / "serve" / package).is_dir()
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("engine", ENGINES, indirect=True, scope="session"),
]


RAISES = "def model_fn(model_dir):\n    raise RuntimeError('broken')\n"
# More than any machine has: Python raises MemoryError at once, and nothing is touched.
TOO_LARGE = "def model_fn(model_dir):\n    return bytearray(2**60)\n"
NEEDS_TOO_MUCH = """
    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        return bytes(2**60)
"""
DIES = """
    import os

    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        os._exit(9)
"""


@pytest.mark.docker_cases(0)
def test_it_starts_without_any_model(start: Start) -> None:
    """The ping is 200 and the list is empty (C-078)."""
    with (models := start()).server:
        assert ping(models.server.url).status == 200
        assert models.page().status == 200
        assert json.loads(models.page().body) == {"models": []}


@pytest.mark.canary
def test_loaded_model_answers_as_xgboost_does(models: Models) -> None:
    """200 means that it can be invoked, with content types as on /invocations (C-079, C-086)."""
    models.write_tree("loaded", 2)

    assert models.load("loaded").status == 200

    answer = models.invoke("loaded", b"6,7\n")
    assert score(answer) == pytest.approx(predicted(2, [6, 7]), abs=1e-6)
    assert answer.headers["Content-Type"] == "text/csv"
    answer = models.invoke("loaded", b"6,7\n", headers={**CSV, "Accept": "application/json"})
    assert answer.headers["Content-Type"] == "application/json"
    assert list(json.loads(answer.body)["predictions"][0]) == ["score"]


@pytest.mark.parametrize("accept", [{}, {"Accept": "*/*"}])
def test_answer_is_json_unless_another_format_is_asked_for(
    models: Models, accept: dict[str, str]
) -> None:
    """Answers JSON without an Accept, as AWS's multi-model image does (C-056)."""
    models.write_tree("json", 2)
    if models.describe("json").status == 404:
        assert models.load("json").status == 200

    answer = models.invoke("json", b"6,7\n", headers={"Content-Type": "text/csv", **accept})

    assert answer.headers["Content-Type"] == "application/json"
    scores = [each["score"] for each in json.loads(answer.body)["predictions"]]
    assert scores == pytest.approx([predicted(2, [6, 7])], abs=1e-6)


def test_model_below_the_directory_of_a_single_model_is_loaded(models: Models) -> None:
    """AWS's own tests have their models in `/opt/ml/model` (C-106)."""
    directory = models.ml.root / "model" / "pickled_model"
    directory.mkdir(parents=True)
    (directory / "xgboost-model").write_bytes(tree(7).save_raw("ubj"))

    assert models.load("below-model", directory).status == 200

    assert score(models.invoke("below-model", b"4,5\n")) == pytest.approx(predicted(7, [4, 5]))


def test_second_load_of_a_name_is_409_and_the_model_goes_on(models: Models) -> None:
    """The second load changes nothing (C-080)."""
    models.write_tree("twice", 3)
    models.load("twice")

    assert models.load("twice").status == 409

    assert score(models.invoke("twice", b"4,5\n")) == pytest.approx(predicted(3, [4, 5]))


def test_model_that_does_not_fit_is_507_and_not_on_the_list(models: Models) -> None:
    """Multi-model-server would keep its name, and answer 409 to the next try (C-081, C-082)."""
    models.write("too-large", TOO_LARGE)
    models.write_tree("unharmed", 1)
    models.load("unharmed")
    process_ids = models.server.process_ids()

    assert models.load("too-large").status == 507

    wait_for(lambda: "too-large" not in models.names())
    wait_for(lambda: models.server.process_ids() == process_ids)
    assert score(models.invoke("unharmed", b"2,3\n")) == pytest.approx(predicted(1, [2, 3]))
    models.write("too-large", SLEEPS)  # what room there is now suffices
    assert models.load("too-large").status == 200
    assert models.invoke("too-large", b"0").text == "slept"


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("kind", ["missing", "empty", "broken", "code"])
def test_load_that_fails_is_an_error_and_leaves_no_name(
    models: Models, engine: str, kind: str
) -> None:
    """A missing or empty directory, a damaged file and code that raises fail the load (C-082)."""
    name = f"fails-{kind}"
    directory = models.directory(name)
    if kind == "code":
        models.write(name, RAISES)
    elif kind != "missing":
        directory.mkdir(parents=True)
    if kind == "broken":
        (directory / "xgboost-model").write_bytes(b"{L\x00\x00" * 50)

    status = models.load(name).status

    assert 400 <= status <= 500
    # multi-model-server answers a moment before it takes the name off its list.
    wait_for(
        lambda: name not in models.names(),
        timeout_seconds=PATIENCE_SECONDS if engine == "mms" else 0,
    )
    assert models.describe(name).status == 404


@pytest.mark.parametrize("url", ["/etc", "/proc/self", "/opt/ml/models/../../../etc", "models"])
def test_url_outside_of_the_models_is_no_model(models: Models, url: str) -> None:
    """Nothing of the machine can be loaded but what the platform has put there (C-082)."""
    assert models.post({"model_name": "outside", "url": url}).status in (400, 404)
    assert "outside" not in models.names()


@pytest.mark.parametrize("missing", ["model_name", "url"])
def test_load_without_name_or_url_is_400(models: Models, missing: str) -> None:
    """Both are required (C-082)."""
    content = {"model_name": "half", "url": models.url(models.write_tree("half", 1))}
    del content[missing]

    assert models.post(content).status == 400


def test_list_has_names_and_urls_in_pages(models: Models) -> None:
    """All names come, in pages of any size, each once (C-083)."""
    for index in range(3):
        models.write_tree(f"page-{index}", 1)
        models.load(f"page-{index}")
    items = {}
    query = "?limit=2"
    while True:
        page = json.loads(models.page(query).body)
        assert len(page["models"]) <= 2
        items |= {item["modelName"]: item["modelUrl"] for item in page["models"]}
        if not page.get("nextPageToken"):
            break
        query = f"?limit=2&next_page_token={page['nextPageToken']}"

    for index in range(3):
        assert items[f"page-{index}"] == models.url(models.directory(f"page-{index}"))
        models.unload(f"page-{index}")


def test_description_is_of_a_loaded_model_only(models: Models) -> None:
    """A model that is not loaded has none: 404 (C-084)."""
    models.write_tree("described", 1)
    assert models.describe("described").status == 404

    models.load("described")

    answer = models.describe("described")
    assert answer.status == 200
    described = json.loads(answer.body)
    assert described["modelName"] == "described"
    assert described["modelUrl"] == models.url(models.directory("described"))


@pytest.mark.canary
def test_unloaded_model_is_unknown(models: Models) -> None:
    """An invocation and another unload of an unloaded model are 404 (C-085, C-086)."""
    models.write_tree("unloaded", 1)
    models.load("unloaded")

    assert models.unload("unloaded").status == 200

    assert models.invoke("unloaded").status == 404
    assert models.unload("unloaded").status == 404


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("name", ["0f" * 32, "a b+c%2e", "naïve-模型", "-", "n" * 500, "eu.v1:2@x"])
def test_name_is_opaque(models: Models, name: str) -> None:
    """Takes the name from the path, percent-encoded, and not from Target-Model (C-087)."""
    directory = models.write_tree("opaque", 5)

    assert models.load(name, directory).status == 200

    try:
        assert json.loads(models.describe(name).body)["modelName"] == name
        headers = {**CSV, "X-Amzn-SageMaker-Target-Model": "other/model.tar.gz"}
        assert models.invoke(name, headers=headers).status == 200
    finally:
        assert models.unload(name).status == 200


def test_model_that_is_loaded_again_is_what_its_files_now_hold(models: Models) -> None:
    """Serves the new files of a name, also from the same directory (C-088)."""
    models.write_tree("updated", 2)
    models.load("updated")
    assert score(models.invoke("updated", b"8,9\n")) == pytest.approx(predicted(2, [8, 9]))

    models.write_tree("updated", 7)
    models.unload("updated")
    models.load("updated")

    assert score(models.invoke("updated", b"8,9\n")) == pytest.approx(predicted(7, [8, 9]))


def test_models_of_equal_module_names_do_not_mix(models: Models) -> None:
    """Runs models with modules of one name apart (C-089)."""
    script = """
        import features

        def model_fn(model_dir):
            return features.NAME

        def transform_fn(model, data, content_type, accept):
            return model
    """
    for name in ("left", "right"):
        models.write(name, script, features=f"NAME = {name!r}")
        models.load(name)

    assert models.invoke("left").text == "left"
    assert models.invoke("right").text == "right"


def test_model_that_dies_takes_nothing_with_it(models: Models) -> None:
    """Loses one request; other models go on, and the name can be loaded again (C-089)."""
    models.write("dies", DIES)
    models.write_tree("lives", 4)
    for name in ("dies", "lives"):
        assert models.load(name).status == 200

    with suppress(ConnectionError, HTTPException):
        assert models.invoke("dies").status == 500

    wait_for(lambda: ping(models.server.url).status == 200)
    assert score(models.invoke("lives", b"6,1\n")) == pytest.approx(predicted(4, [6, 1]))
    models.unload("dies")
    models.write("dies", SLEEPS)
    models.load("dies")
    assert models.invoke("dies", b"0").status == 200


def test_of_two_loads_of_one_name_one_is_409(models: Models) -> None:
    """Answers 409 to one of two loads while other models load, unload and predict (C-090)."""
    models.write_tree("contended", 1)

    with ThreadPoolExecutor(4) as pool:
        statuses = [r.status for r in pool.map(lambda _: models.load("contended"), range(4))]

    assert sorted(statuses) == [200, 409, 409, 409]
    assert models.invoke("contended").status == 200


def test_invocation_without_memory_is_507_and_the_worker_lives(models: Models) -> None:
    """The same worker answers the next invocation (C-091)."""
    models.write("needs-too-much", NEEDS_TOO_MUCH)
    models.load("needs-too-much")
    process_ids = models.server.process_ids()

    answer = models.invoke("needs-too-much")

    assert answer.status == 507
    assert json.loads(answer.body)["error"]["code"] == "out_of_memory"
    assert models.server.process_ids() == process_ids


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"1,2,3\n", CSV, 400, "malformed_payload"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400, "malformed_payload"),
        (b"1", {"Content-Type": "text/xml"}, 415, "unsupported_content_type"),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, None),
        (b"1,2", {**CSV, "Accept": "image/png"}, 406, "unsupported_accept"),
    ],
)
def test_bad_request_is_4xx_and_the_worker_lives(
    models: Models, body: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    """Answers a bad request with the error body of every server (C-054, C-057)."""
    models.write_tree("strict", 1)
    models.load("strict")
    process_ids = models.server.process_ids()

    answer = models.invoke("strict", body, headers=headers)

    assert answer.status == status
    error = json.loads(answer.body)["error"]
    assert error["code"] == (code or "unsupported_content_type")
    assert "Traceback" not in answer.text
    assert models.invoke("strict").status == 200
    assert models.server.process_ids() == process_ids


def test_empty_body_is_204(models: Models) -> None:
    """Answers 204 to an empty body (C-058)."""
    models.write_tree("empty", 1)
    models.load("empty")

    assert models.invoke("empty", b"").status == 204


def test_ping_is_answered_while_models_are_busy(models: Models) -> None:
    """Invocations that sleep in all workers do not delay it (C-045)."""
    models.write("busy", SLEEPS)
    models.load("busy")

    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(models.invoke, "busy", b"5") for _ in range(2)]
        models.server.wait_for_output("sleeps 5.0", PATIENCE_SECONDS)
        assert ping(models.server.url).status == 200  # within 2 s
        assert not any(call.done() for call in slow)
        assert [call.result().status for call in slow] == [200, 200]


def test_large_body_is_answered(models: Models) -> None:
    """25 MB, every record of it (C-050)."""
    models.write_tree("large", 1)
    models.load("large")
    n_rows = 25 * 10**6 // 4

    answer = models.invoke("large", b"1,2\n" * n_rows)

    assert answer.status == 200
    assert answer.body.count(b"\n") == n_rows


def test_model_directory_is_only_read(models: Models) -> None:
    """Files, times and names are as before (C-059)."""
    directory = models.write("read-only", SLEEPS)

    def content() -> dict[Path, tuple[bytes, int]]:
        files = (path for path in directory.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = content()
    models.load("read-only")
    models.invoke("read-only", b"0")
    models.unload("read-only")

    assert content() == before


def test_routes_that_are_not_there_are_404_and_405(models: Models) -> None:
    """An unknown path is 404, a known path with another method 405 (C-047)."""
    assert send(models.server.url, "GET", "/nothing").status == 404
    assert send(models.server.url, "DELETE", "/models").status == 405
