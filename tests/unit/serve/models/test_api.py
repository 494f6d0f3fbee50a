import json

import pytest
from flask.testing import FlaskClient

from container.settings import Settings
from serve.app import create_app
from serve.metrics import Metrics
from serve.models.api import create_blueprint
from serve.models.registry import Model


class Failing:
    """A catalogue with a mistake in it."""

    def load(self, name: str, url: str) -> Model:
        raise KeyError("secret")


@pytest.fixture
def client() -> FlaskClient:
    app = create_app(Settings(), 1, Metrics(1))
    app.config["MAX_CONTENT_LENGTH"] = 100
    app.register_blueprint(create_blueprint(Failing()))  # type: ignore[arg-type]
    return app.test_client()


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
    """C-082: multi-model-server's, and ours beside it; what nobody has foreseen is not shown."""
    query = "?model_name=m&url=/m"

    answer = client.open(f"{route}{query}", method=method, data=body)

    status, kind, code = facts
    content = json.loads(answer.data)
    assert (answer.status_code, content["code"], content["type"]) == (status, status, kind)
    assert content["error"]["code"] == code
    assert "secret" not in answer.text
