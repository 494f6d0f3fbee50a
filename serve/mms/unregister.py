"""Takes a model that was refused with 507 off multi-model-server's list.

multi-model-server leaves it there, without a worker: it would answer 503 to every invocation, and
409 to the platform, which loads it again once it has made room.
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
    """Wait for the refusal in a thread, unregister the model, and end this process, its worker.

    The worker may hang by then: it opens pipes that the server does not read any more.
    """
    threading.Thread(target=_unregister, args=(model_name, port), name="unregister").start()


def _unregister(model_name: str, port: int) -> None:
    route = f"/models/{quote(model_name, safe='')}"
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    try:
        while time.monotonic() < deadline:
            status, described = _ask(port, "GET", route)
            # 404 says nothing: it takes the name off its list, fails, and puts it back.
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
