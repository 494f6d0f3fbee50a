"""Everything that is neither a ping nor an invocation, in Flask.

Unknown paths and wrong methods get the same error body as on the hot path.
"""

import re

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from serve.error_reply import CONTENT_TYPE, error_body, request_id


def create_app() -> Flask:
    """The application; it holds no state of its own."""
    app = Flask("serve", static_folder=None)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)
    return app


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 404:
        message = f"there is no {request.method} {request.path}; use GET /ping or POST /invocations"
    else:
        message = error.description or error.name
    code = re.sub(r"\W+", "_", error.name.lower())
    return _reply(status, code, message)


def _unexpected_error(error: Exception) -> Response:
    from flask import current_app

    current_app.logger.exception("request_failed", exc_info=error)
    return _reply(500, "internal_error", "the request failed; see the log")


def _reply(status: int, code: str, message: str) -> Response:
    identity = request_id(request.headers.get("X-Amzn-SageMaker-Inference-Id", ""))
    return Response(error_body(code, message, identity), status, content_type=CONTENT_TYPE)
