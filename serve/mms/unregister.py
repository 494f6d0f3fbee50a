"""Unregisters a model whose load multi-model-server has answered with 507.

multi-model-server keeps it registered, without a worker: it would answer 503 to every invocation,
and 409 when the platform has made room and loads the model again.
"""

import http.client
import json
import logging
import os
import threading
import time
from urllib.parse import quote

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.02


def when_refused(model_name: str, port: int) -> None:
    """Start a thread that waits for the 507, unregisters the model, and ends this worker process.

    The main thread may hang by then: it opens pipes that the server no longer reads.
    """
    threading.Thread(target=_unregister, args=(model_name, port), name="unregister").start()


def _unregister(model_name: str, port: int) -> None:
    route = f"/models/{quote(model_name, safe='')}"
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    try:
        while time.monotonic() < deadline:
            status, described = _ask(port, "GET", route)
            # After a 404 the loop goes on: multi-model-server removes the name for a moment, fails,
            # and puts it back.
            if status == 200 and not json.loads(described)["minWorkers"]:
                _ask(port, "DELETE", route)
                break
            time.sleep(_POLL_SECONDS)
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        logger.exception("unregister_failed", extra={"model_name": model_name})
    finally:
        os._exit(1)


def _ask(port: int, method: str, route: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, route)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
