"""Answers of the management API: the members of multi-model-server, and our own `error` beside.

{"code": 404, "type": "ModelNotFoundException", "message": "Model not found: N",
 "error": {"code": "model_not_found", "message": "Model not found: N", "request_id": …}}
"""

from http import HTTPStatus

import orjson

from container.errors import ContainerError, ModelLoadError, ModelNotFoundError
from serve.http import responses
from serve.http.responses import Reply
from serve.http.statuses import status_of
from serve.model_process.code_model import MANY_CRASHES
from serve.multi_model.model_registry import Model

REGISTERED = "Workers scaled"  # multi-model-server's answer to a synchronous registration
_TYPES = {
    400: "BadRequestException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def refused_invocation(error: ContainerError, request_id: str) -> Reply:
    """Return the reply to an invocation that failed: a `serve.http.responses.Refusal`."""
    reply = responses.refusal(error, request_id)
    return reply._replace(body=error_body(error, reply.status, request_id))


def status_of_refused_load(error: ContainerError) -> int:
    """Return the status of a failed load: 400 for a bad model, which the client chose.

    In an invocation the same error is 500, since the model was accepted before.
    """
    return 400 if isinstance(error, ModelLoadError) else status_of(error)


def error_body(error: ContainerError, status: int, request_id: str) -> bytes:
    """Return the body of an error response, in JSON."""
    if isinstance(error, ModelNotFoundError):
        kind = "ModelNotFoundException"
    elif isinstance(error, ModelLoadError):
        kind = "InvalidModelException"
    else:
        kind = _TYPES.get(status) or _exception(HTTPStatus(status))
    ours = {"code": error.code, "message": error.message, "request_id": request_id}
    return orjson.dumps({"code": status, "type": kind, "message": error.message, "error": ours})


def listed(model: Model) -> dict[str, str]:
    """Return an item of `GET /models`."""
    return {"modelName": model.name, "modelUrl": model.url}


def described(model: Model, n_crashes: int = 0, reason: str = "") -> dict[str, object]:
    """Return the answer of `GET /models/NAME`.

    Args:
        model: The model.
        n_crashes: Crashes in a row of the process of a model with code; told from 3.
        reason: Of the last one.
    """
    answer = {**listed(model), "algorithm": model.algorithm, "memoryBytes": model.n_bytes}
    if n_crashes >= MANY_CRASHES:
        answer["crashes"] = {"inARow": n_crashes, "lastReason": reason}
    return answer


def _exception(status: HTTPStatus) -> str:
    return "".join(status.phrase.title().split()) + "Exception"
