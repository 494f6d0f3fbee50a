"""Flask application for all paths but pings and invocations.

    GET /execution-parameters   how batch transform should cut its input (C-069)
    GET /metrics                Prometheus text

`serve/http/flask_errors.py` answers unknown paths and wrong methods.
"""

from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify

from container.settings import Settings
from serve.http import flask_errors
from serve.http import request_metrics as prometheus
from serve.http.request_metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

# The platform's limit of concurrent transforms times their payload (C-070).
_MAX_TRANSFORM_MEBIBYTES = 100
_DEFAULT_TRANSFORM_MEBIBYTES = 6
_PATHS = "GET /ping, POST /invocations, GET /execution-parameters or GET /metrics"


def create_app(
    settings: Settings, n_workers: int, metrics: Metrics, *collectors: "Collector"
) -> Flask:
    """Create the application, which holds no state of its own.

    Args:
        settings: Of the server.
        n_workers: The number of its workers.
        metrics: Answered by `GET /metrics`.
        collectors: More metrics for `GET /metrics`.
    """
    app = Flask("serve", static_folder=None)
    flask_errors.register(app, _PATHS)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        return jsonify(transform_parameters(settings, n_workers))

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(*collectors), content_type=prometheus.CONTENT_TYPE)

    return app


def transform_parameters(settings: Settings, n_workers: int) -> dict[str, int | str]:
    """The answer to `GET /execution-parameters`: one transform a worker, of the default size.

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
