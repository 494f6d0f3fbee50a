import codecs
import gzip
import json
import re

import pytest
from flask.testing import FlaskClient

from container.settings import Settings
from serve.http.admin_app import create_app
from serve.http.request_metrics import Metrics
from serve.multi_model.api import create_blueprint
from serve.multi_model.model_registry import Model

MODEL = b'{"model_name": "m", "url": "/m"}'


class Failing:
    """A catalogue with a bug."""

    def load(self, name: str, url: str) -> Model:
        raise KeyError("secret")


class Recording:
    """A catalogue that loads nothing."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str]] = []

    def load(self, name: str, url: str) -> None:
        self.loaded.append((name, url))

    def page(self, after: str, limit: int) -> tuple[list[Model], bool]:
        return [], False


def _client(catalogue: object) -> FlaskClient:
    app = create_app(Settings(), 1, Metrics(1))
    app.config["MAX_CONTENT_LENGTH"] = 100
    app.register_blueprint(create_blueprint(catalogue))  # type: ignore[arg-type]
    return app.test_client()


@pytest.fixture
def client() -> FlaskClient:
    return _client(Failing())


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.mark.parametrize(
    ("method", "route", "body", "facts"),
    [
        ("POST", "/models", "", (500, "InternalServerException", "internal_error")),
        (
            "POST",
            "/models",
            "x" * 101,
            (413, "RequestEntityTooLargeException", "request_entity_too_large"),
        ),
        ("PUT", "/models", "", (405, "MethodNotAllowedException", "method_not_allowed")),
        ("GET", "/nowhere", "", (404, "ResourceNotFoundException", "not_found")),
    ],
)
def test_every_refusal_is_in_both_forms(
    client: FlaskClient, method: str, route: str, body: str, facts: tuple[int, str, str]
) -> None:
    """Has multi-model-server's form and ours; hides unexpected errors (C-082)."""
    query = "?model_name=m&url=/m"

    client_id = {"X-Amzn-SageMaker-Inference-Id": "mine"}
    answer = client.open(f"{route}{query}", method=method, data=body, headers=client_id)

    status, kind, code = facts
    content = json.loads(answer.data)
    assert (answer.status_code, content["code"], content["type"]) == (status, status, kind)
    assert (content["error"]["code"], content["error"]["request_id"]) == (code, "mine")
    assert "secret" not in answer.text


def test_unknown_path_names_the_paths_of_this_server(client: FlaskClient) -> None:
    """Names each route of this server, but no invocation without a model."""
    message = client.get("/nowhere").get_json()["message"]

    rules = client.application.url_map.iter_rules()
    paths = {re.sub("<.*>", "NAME", rule.rule) for rule in rules} - {"/invocations"}
    assert paths | {"/ping"} == set(re.findall(r"/[\w/-]+", message.partition("use ")[2]))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (codecs.BOM_UTF8 + MODEL, {}),
        (gzip.compress(MODEL), {"Content-Encoding": "gzip"}),
        (gzip.compress(MODEL), {"Content-Encoding": "GZIP"}),
        (gzip.compress(codecs.BOM_UTF8 + MODEL), {}),
        (b"", {}),
    ],
    ids=["bom", "gzip", "upper-case", "gzip-and-bom-not-said", "query"],
)
def test_load_is_read_in_every_form_that_clients_send(
    recording: Recording, body: bytes, headers: dict[str, str]
) -> None:
    """Reads a load in the forms of an invocation's body (C-079)."""
    query = "" if body else "?model_name=m&url=/m"

    answer = _client(recording).post(f"/models{query}", data=body, headers=headers)

    assert answer.status_code == 200, answer.text
    assert recording.loaded == [("m", "/m")]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "reason"),
    [
        (b"model_name=m&url=/m", "", 400, "not JSON in UTF-8: .*; send a JSON object with model_"),
        (MODEL.decode().encode("utf-16"), "", 400, "not JSON in UTF-8"),
        (b"[]", "", 400, "the body must be a JSON object with model_name and url"),
        (MODEL, "gzip", 400, "the body is not gzip"),
        (gzip.compress(MODEL)[:-9], "", 400, "the gzip stream ends too early"),
        (MODEL, "br", 415, "content encoding 'br' is not supported; send gzip"),
        (gzip.compress(bytes(2**20 + 1)), "gzip", 413, "larger than 1048576 bytes"),
    ],
    ids=["form", "utf-16", "list", "not-gzip", "cut", "brotli", "bomb"],
)
def test_load_that_cannot_be_read_is_refused_with_the_remedy(
    recording: Recording, body: bytes, encoding: str, status: int, reason: str
) -> None:
    """Says what is accepted (C-082)."""
    client = _client(recording)
    client.application.config["MAX_CONTENT_LENGTH"] = 2**20

    answer = client.post("/models", data=body, headers={"Content-Encoding": encoding})

    assert answer.status_code == status
    assert re.search(reason, answer.get_json()["message"]), answer.text
    assert recording.loaded == []


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "", "x" * 100])
def test_limit_that_is_not_a_number_from_1_is_refused_with_its_value(
    recording: Recording, limit: str
) -> None:
    """Shows the beginning of the limit, and the accepted ones (C-083)."""
    answer = _client(recording).get(f"/models?limit={limit}")

    assert answer.status_code == 400
    assert answer.get_json()["message"] == (
        f"limit is {limit[:20]!r}, not a whole number from 1; a page has at most 100 models"
    )
