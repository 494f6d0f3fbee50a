"""Management API of a multi-model server: the routes below `/models`, in Flask.

    POST   /models          {"model_name": N, "url": P}   load
    GET    /models          ?limit=&next_page_token=      list
    GET    /models/N                                      describe
    DELETE /models/N                                      unload

Members of requests are in snake_case, members of answers in camelCase.

Source: SageMaker developer guide, "Custom Containers Contract for Multi-Model Endpoints".
"""

import codecs
import logging
import re

import orjson
from flask import Blueprint, Response, request
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from container.errors import ContainerError, InvalidRequestError, ModelNotFoundError
from serve.http import whole_bodies
from serve.http.error_body import CONTENT_TYPE
from serve.http.flask_errors import allowed_methods, current_request_id, http_error
from serve.http.request_body import RequestBodies
from serve.http.responses import InternalError
from serve.multi_model import api_responses, model_names
from serve.multi_model.catalogue import Catalogue

logger = logging.getLogger(__name__)

_MAX_PAGE = 100
_MAX_SHOWN = 20  # characters of a parameter in an error message
_PATHS = (
    "GET /ping, GET or POST /models, GET or DELETE /models/NAME, POST /models/NAME/invoke, "
    "GET /execution-parameters or GET /metrics"
)
_WANTED = "a JSON object with model_name and url"
_bodies = RequestBodies(
    max_bytes=whole_bodies.MAX_BYTES,
    max_held_bytes=0,
    timeout_seconds=0,  # received by `serve.http.whole_bodies`
    limit_setting=whole_bodies.LIMIT,
)


def create_blueprint(catalogue: Catalogue) -> Blueprint:
    """Return the routes, which hold no state of their own."""
    routes = Blueprint("models", __name__)
    routes.record(_add_converter)
    routes.register_error_handler(ContainerError, _refused)
    routes.app_errorhandler(HTTPException)(_http_error)
    routes.app_errorhandler(Exception)(_failed)

    @routes.post("/models")
    def load() -> Response:
        catalogue.load(*_name_and_url())
        return _json({"status": api_responses.REGISTERED})

    @routes.get("/models")
    def page() -> Response:
        token = request.args.get("next_page_token", "")
        models, has_more = catalogue.page(model_names.after(token), _limit())
        answer: dict[str, object] = {"models": [api_responses.listed(model) for model in models]}
        if has_more:
            answer["nextPageToken"] = model_names.page_token(models[-1].name)
        return _json(answer)

    @routes.get("/models/<name:_>")
    def describe(_: str) -> Response:
        model = catalogue.describe(_name())
        return _json(api_responses.described(model, *catalogue.crashes(model)))

    @routes.delete("/models/<name:_>")
    def unload(_: str) -> Response:
        name = _name()
        catalogue.unload(name)
        return _json({"status": f'Model "{name}" unregistered'})

    # Invocations of a valid path are answered by `serve.multi_model.model_leases` before Flask.
    @routes.post("/models/<name:_>/invoke")
    def invoke(_: str) -> Response:
        raise ModelNotFoundError("the path is not /models/NAME/invoke with NAME percent-encoded")

    @routes.post("/invocations")
    def invocations() -> Response:
        raise ModelNotFoundError("this server has many models: POST /models/NAME/invoke")

    return routes


class _AnyName(BaseConverter):
    """Matches any decoded name; Werkzeug's `path` does not match one that begins with a slash."""

    part_isolating = False
    regex = ".+"


def _add_converter(setup: BlueprintSetupState) -> None:
    setup.app.url_map.converters["name"] = _AnyName


def _name_and_url() -> tuple[str, str]:
    given = _parameters()
    name = model_names.check(given.get("model_name"))
    url = given.get("url")
    if not isinstance(url, str) or not url:
        raise InvalidRequestError("Parameter url is required.")
    return name, url


def _parameters() -> dict[str, object]:
    """Return the members of the JSON body, or the query's: multi-model-server takes both."""
    encoding = request.headers.get("Content-Encoding", "").lower()
    with _bodies.inflated(request.get_data(), encoding, detects_gzip=True) as body:
        if not body:
            return dict(request.args)
        try:
            given = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
        except orjson.JSONDecodeError as error:
            reason = f"the body is not JSON in UTF-8: {error.msg}; send {_WANTED}"
            raise InvalidRequestError(reason) from error
    if not isinstance(given, dict):
        raise InvalidRequestError(f"the body must be {_WANTED}")
    return given


def _limit() -> int:
    text = request.args.get("limit", str(_MAX_PAGE))
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise InvalidRequestError(
            f"limit is {text[:_MAX_SHOWN]!r}, not a whole number from 1; a page has at most "
            f"{_MAX_PAGE} models"
        )
    return min(int(text), _MAX_PAGE)


def _name() -> str:
    """Return the model's name, from the raw path: in a decoded one `%2F` and `/` look the same."""
    name = model_names.in_path(request.environ["asgi.scope"]["raw_path"])
    if name is None:
        raise ModelNotFoundError("the path is not /models/NAME with NAME percent-encoded")
    return name


def _refused(error: ContainerError) -> Response:
    status = api_responses.status_of_refused_load(error)
    identity = current_request_id()
    logger.log(
        logging.ERROR if status >= 500 and status != 507 else logging.INFO,
        "model_request_refused",
        extra={
            "method": request.method,
            "status": status,
            "code": error.code,
            "reason": error.message,
            "request_id": identity,
        },
        exc_info=error if status >= 500 and status != 507 else None,
    )
    return Response(
        api_responses.error_body(error, status, identity), status, content_type=CONTENT_TYPE
    )


def _http_error(error: HTTPException) -> Response:
    """Answer an error of Flask: an unknown path, a wrong method, a body that is too large."""
    status = error.code or 500
    body = api_responses.error_body(http_error(error, _PATHS), status, current_request_id())
    headers = allowed_methods(error)
    return Response(body, status, headers=headers, content_type=CONTENT_TYPE)


def _failed(error: Exception) -> Response:
    """Answer an unexpected exception with 500 and log its traceback."""
    identity = current_request_id()
    logger.error("request_failed", extra={"request_id": identity}, exc_info=error)
    body = api_responses.error_body(InternalError("the request failed; see the log"), 500, identity)
    return Response(body, 500, content_type=CONTENT_TYPE)


def _json(answer: object) -> Response:
    return Response(orjson.dumps(answer), content_type=CONTENT_TYPE)
