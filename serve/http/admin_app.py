"""Everything that is neither a ping nor an invocation, in Flask.

    GET /execution-parameters   how batch transform should cut its input (C-069)
    GET /metrics                Prometheus text

Unknown paths and wrong methods get the same error body as on the hot path.
"""

import re
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from container.errors import ContainerError
from container.settings import Settings
from serve.http import request_metrics as prometheus
from serve.http.error_body import CONTENT_TYPE, error_body, request_id
from serve.http.request_metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

# The platform refuses more than this much at once: transforms times their payload (C-070).
_MAX_TRANSFORM_MEBIBYTES = 100
_DEFAULT_TRANSFORM_MEBIBYTES = 6
_PATHS = "GET /ping, POST /invocations, GET /execution-parameters or GET /metrics"


def create_app(
    settings: Settings, n_workers: int, metrics: Metrics, *collectors: "Collector"
) -> Flask:
    """The application; it holds no state of its own.

    Args:
        collectors: More metrics for `GET /metrics`.
    """
    app = Flask("serve", static_folder=None)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        return jsonify(transform_parameters(settings, n_workers))

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(*collectors), content_type=prometheus.CONTENT_TYPE)

    return app


def transform_parameters(settings: Settings, n_workers: int) -> dict[str, int | str]:
    """What `GET /execution-parameters` answers: a transform for each worker, in the default size.

    Source: AWS SageMaker developer guide, "How Containers Serve Requests" for batch transform.
    """
    mebibytes = _DEFAULT_TRANSFORM_MEBIBYTES
    limit = settings.max_payload_bytes // 2**20
    if limit and limit < mebibytes:
        mebibytes = max(limit, 1)
    return {
        "MaxConcurrentTransforms": min(n_workers, _MAX_TRANSFORM_MEBIBYTES // mebibytes),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": mebibytes,
    }


def http_error(error: HTTPException, paths: str) -> ContainerError:
    """What Flask itself refuses, as an error of ours.

    Args:
        paths: The requests that this server answers, for the message of a 404.
    """
    if error.code == 404:
        message = f"there is no {request.method} {request.path}; use {paths}"
    else:
        message = error.description or error.name
    refused = ContainerError(message)
    refused.code = re.sub(r"\W+", "_", error.name.lower())
    return refused


def allowed_methods(error: HTTPException) -> dict[str, str]:
    """The header that says which methods a path has."""
    methods = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


def _http_error(error: HTTPException) -> Response:
    refused = http_error(error, _PATHS)
    response = _reply(error.code or 500, refused.code, refused.message)
    response.headers.update(allowed_methods(error))
    return response


def _unexpected_error(error: Exception) -> Response:
    current_app.logger.error("request_failed", exc_info=error)
    return _reply(500, "internal_error", "the request failed; see the log")


def _reply(status: int, code: str, message: str) -> Response:
    identity = request_id(request.headers.get("X-Amzn-SageMaker-Inference-Id", ""))
    return Response(error_body(code, message, identity), status, content_type=CONTENT_TYPE)
