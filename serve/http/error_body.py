"""The JSON body of all errors, whichever application answers."""

import random
from collections.abc import Mapping

import orjson

CONTENT_TYPE = "application/json"
_MAX_ID_CHARACTERS = 64


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Encode `{"error": {"code": …, "message": …, "request_id": …}}`; the id is in the log, too."""
    return orjson.dumps({"error": {"code": code, "message": message, "request_id": request_id}})


def request_id(inference_id: str) -> str:
    """Return the client's `X-Amzn-SageMaker-Inference-Id` if it is fit to log, or else a new id."""
    if 0 < len(inference_id) <= _MAX_ID_CHARACTERS and inference_id.isprintable():
        return inference_id
    return f"{random.getrandbits(128):032x}"  # no secret; Python reseeds after a fork


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the `request_id` for a request with these headers, whose names are in lower case."""
    return request_id(headers.get(b"x-amzn-sagemaker-inference-id", b"").decode("latin-1"))
