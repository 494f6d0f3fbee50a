"""Handler of multi-model-server: the function that it calls in each of its workers.

The first call has no data and loads the model. An exception fails the load: `MemoryError` with
status 507, any other with 500. The handler is not a class, since multi-model-server swallows
exceptions of a class's `initialize`, and the load would succeed.
"""

import fcntl
import logging
import os
import sys
import tempfile
import termios
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from container import allocator, logs
from container.algorithms import registry
from container.errors import ContainerError
from container.settings import Settings
from serve.http.responses import Reply
from serve.mms import unregister
from serve.mms.in_flight import InFlight
from serve.mms.model_worker import Request, Worker
from serve.runtime import decoder_pool

logger = logging.getLogger(__name__)

_LOG_SECONDS, _LOG_POLL_SECONDS = 1.0, 0.01


class Context(Protocol):
    """The members of multi-model-server's context that are used here."""

    model_name: str
    system_properties: Mapping[str, Any]

    def get_request_id(self, idx: int = 0) -> str: ...
    def get_all_request_header(self, idx: int) -> Mapping[str, Any]: ...
    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None: ...
    def set_response_header(self, idx: int, key: str, value: str) -> None: ...


class _Process:
    """State of this process, set when its model is loaded."""

    worker: Worker
    in_flight: InFlight


def handle(data: Sequence[Mapping[str, Any]] | None, context: Context) -> list[bytes]:
    """Load the model, or answer each request of a batch.

    Args:
        data: One mapping for each request, with its body as `body` or the fields of a form; None
            to load the model.
        context: Has the model's name and the requests' headers; gets statuses and headers.
    """
    if data is None:
        _load(context)
        return []
    with _Process.in_flight.answering():
        return [_answer(fields, context, index) for index, fields in enumerate(data)]


def _load(context: Context) -> None:
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level)
    allocator.return_large_blocks()
    registry.use_directory(settings.algorithm_dir)
    logging.getLogger("mms").setLevel(logging.WARNING)  # two lines of metrics an invocation
    decoder_pool.POOL.limit_seconds(settings.timeout_seconds)
    name, model_dir = context.model_name, Path(context.system_properties["model_dir"])
    # multi-model-server put the model directory before the standard library: a `json.py` in it
    # would replace Python's.
    sys.path[:] = [path for path in sys.path if not Path(path).is_relative_to(model_dir)]
    try:
        _Process.worker = Worker.load(model_dir, name, settings)
    except MemoryError as error:
        logger.warning("model_refused", extra={"model_name": name, "reason": str(error)})
        _wait_until_log_is_read()
        unregister.when_refused(name, settings.port)
        raise
    except ContainerError as error:
        facts = {"model_name": name, "code": error.code, "reason": error.message}
        logger.exception("model_load_failed", exc_info=error.__cause__, extra=facts)
        _wait_until_log_is_read()
        raise
    _Process.in_flight = InFlight(Path(tempfile.gettempdir()))


def _wait_until_log_is_read() -> None:
    """Wait until multi-model-server has read the standard output of this process.

    It stops reading when it has the answer that the load failed: the reason would be lost.
    """
    deadline = time.monotonic() + _LOG_SECONDS
    while time.monotonic() < deadline:
        n_unread = bytearray(4)
        try:
            fcntl.ioctl(sys.stdout.fileno(), termios.FIONREAD, n_unread)
        except OSError:  # not a pipe
            return
        if not int.from_bytes(n_unread, sys.byteorder):
            return
        time.sleep(_LOG_POLL_SECONDS)


def _answer(fields: Mapping[str, Any], context: Context, index: int) -> bytes:
    headers = {
        name.lower(): value
        for name, value in context.get_all_request_header(index).items()
        if isinstance(value, str)  # other values are headers of the parts of a form
    }
    body = fields.get("body")
    is_whole = isinstance(body, bytes | bytearray) and not _is_form(headers)
    request = Request(
        bytes(body or b"") if is_whole else None, headers, context.get_request_id(index)
    )
    reply = _Process.worker.reply(request)
    _set(reply, context, index)
    return reply.body


def _is_form(headers: Mapping[str, str]) -> bool:
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return content_type in ("application/x-www-form-urlencoded", "multipart/form-data")


def _set(reply: Reply, context: Context, index: int) -> None:
    context.set_response_status(reply.status, _phrase(reply.status), index)
    for name, value in reply.headers:
        if name != b"connection":  # multi-model-server sets it
            context.set_response_header(index, name.decode("latin-1"), value.decode("latin-1"))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
