"""Error replies of Flask applications, with the error body of the hot path."""

import re

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from container.errors import ContainerError
from serve.http.error_body import CONTENT_TYPE, error_body, request_id


def register(app: Flask, paths: str) -> None:
    """Answer all errors of an application with the error body.

    Args:
        app: The application.
        paths: The requests that the server answers, for the message of a 404.
    """

    def reply_to_http_error(error: HTTPException) -> Response:
        refused = http_error(error, paths)
        response = _reply(error.code or 500, refused.code, refused.message)
        response.headers.update(allowed_methods(error))
        return response

    app.register_error_handler(HTTPException, reply_to_http_error)
    app.register_error_handler(Exception, _reply_to_unexpected_error)


def http_error(error: HTTPException, paths: str) -> ContainerError:
    """Turn an error of Flask's own, e.g. of an unknown path, into a `ContainerError`.

    Args:
        error: Raised by Flask.
        paths: The requests that the server answers, for the message of a 404.
    """
    if error.code == 404:
        message = f"there is no {request.method} {request.path}; use {paths}"
    else:
        message = error.description or error.name
    refused = ContainerError(message)
    refused.code = re.sub(r"\W+", "_", error.name.lower())
    return refused


def current_request_id() -> str:
    """Return the id of the request that Flask is answering, as `request_id` does."""
    return request_id(request.headers.get("X-Amzn-SageMaker-Inference-Id", ""))


def allowed_methods(error: HTTPException) -> dict[str, str]:
    """The `Allow` header of a 405; no header for other errors."""
    methods = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


def _reply_to_unexpected_error(error: Exception) -> Response:
    current_app.logger.error("request_failed", exc_info=error)
    return _reply(500, "internal_error", "the request failed; see the log")


def _reply(status: int, code: str, message: str) -> Response:
    body = error_body(code, message, current_request_id())
    return Response(body, status, content_type=CONTENT_TYPE)
