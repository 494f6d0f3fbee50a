import json
import os

import pytest

from container.errors import ContainerError, ModelLoadError
from serve.http import responses as plain
from serve.http.responses import Reply
from serve.multi_model import api_responses


@pytest.mark.parametrize(
    ("reply", "facts", "headers"),
    [
        (
            plain.shutting_down("me", api_responses.refused_invocation),
            (503, "ServiceUnavailableException", "shutting_down"),
            {b"retry-after", b"connection"},
        ),
        (
            plain.method_not_allowed(
                "/m", "GET", ("POST",), "id", api_responses.refused_invocation
            ),
            (405, "MethodNotAllowedException", "method_not_allowed"),
            {b"allow"},
        ),
    ],
    ids=["draining", "method"],
)
def test_refusal_without_an_invocation_is_in_both_forms(
    reply: Reply, facts: tuple[int, str, str], headers: set[bytes]
) -> None:
    """Has the members of multi-model-server and our own `error` (C-086)."""
    body = json.loads(reply.body)

    assert (body["code"], body["type"], body["error"]["code"]) == facts
    assert reply.status == facts[0]
    assert body["message"] == body["error"]["message"]
    assert headers < {name for name, _ in reply.headers}


def test_message_that_names_a_file_with_any_bytes_is_sent() -> None:
    """Escapes lone surrogates, which JSON does not have (C-082)."""
    error: ContainerError = ModelLoadError(f"files found: {os.fsdecode(b'a-' + bytes([255]))}")

    reply = api_responses.refused_invocation(error, "me")

    assert json.loads(reply.body)["message"] == "files found: a-\\udcff"
    assert json.loads(reply.body)["type"] == "InvalidModelException"
    assert json.loads(plain.refusal(error, "me").body)["error"]["code"] == "model_load_failed"
