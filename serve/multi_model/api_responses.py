"""What clients of many models get: the words of multi-model-server, and our own error beside them.

{"code": 404, "type": "ModelNotFoundException", "message": "Model not found: N",
 "error": {"code": "model_not_found", "message": "Model not found: N", "request_id": …}}
"""

from http import HTTPStatus

import orjson

from container.errors import ContainerError, ModelLoadError, ModelNotFoundError
from serve.http import responses
from serve.http.responses import Reply
from serve.http.statuses import status_of
from serve.multi_model.model_registry import Model

REGISTERED = "Workers scaled"  # what a synchronous registration with one worker answers there
_TYPES = {
    400: "BadRequestException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def refused_invocation(error: ContainerError, request_id: str) -> Reply:
    """The reply to an invocation that an error ended: a `serve.http.responses.Refusal`."""
    reply = responses.refusal(error, request_id)
    return reply._replace(body=error_body(error, reply.status, request_id))


def status_of_refused_load(error: ContainerError) -> int:
    """A model that cannot be used is the fault of whoever sent it; later on it would be ours."""
    return 400 if isinstance(error, ModelLoadError) else status_of(error)


def error_body(error: ContainerError, status: int, request_id: str) -> bytes:
    """The body of a refusal."""
    if isinstance(error, ModelNotFoundError):
        kind = "ModelNotFoundException"
    elif isinstance(error, ModelLoadError):
        kind = "InvalidModelException"
    else:
        kind = _TYPES.get(status) or _exception(HTTPStatus(status))
    ours = {"code": error.code, "message": error.message, "request_id": request_id}
    return orjson.dumps({"code": status, "type": kind, "message": error.message, "error": ours})


def listed(model: Model) -> dict[str, str]:
    """An item of a list."""
    return {"modelName": model.name, "modelUrl": model.url}


def described(model: Model) -> dict[str, object]:
    """What `GET /models/NAME` answers."""
    return {**listed(model), "algorithm": model.algorithm, "memoryBytes": model.n_bytes}


def _exception(status: HTTPStatus) -> str:
    return "".join(status.phrase.title().split()) + "Exception"
