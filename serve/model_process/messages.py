"""Reports of a model process, checked in the worker: the code of the model can forge them."""

import logging
from collections.abc import Generator
from typing import Any, NamedTuple

from container import cgroup
from serve.invocation import Answer
from serve.user_code.context import checked_header
from serve.user_code.response import STATUSES_WITHOUT_BODY

_LOG_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "model_name"}


class Loaded(NamedTuple):
    """Report of a model that is loaded."""

    facts: dict[str, object]
    has_own_formats: bool
    n_bytes: int
    shared_user: str  # why the process has no user of its own; empty if it has one


def loaded(report: dict[str, Any]) -> Loaded:
    """Return the checked report of a loaded model.

    Raises:
        KeyError, TypeError, ValueError: it is not such a report.
    """
    facts = dict(report["facts"])
    if _LOG_FIELDS & facts.keys():  # `logging` refuses them
        raise ValueError("facts with the names of fields of a log record")
    n_bytes = _whole_number(report["n_bytes"])
    if n_bytes > cgroup.memory_bytes():
        raise ValueError(f"a model of {n_bytes} bytes")
    return Loaded(facts, bool(report["has_own_formats"]), n_bytes, str(report["shared_user"]))


def answer(reply: dict[str, Any], body: bytes | Generator[bytes, None, None]) -> Answer:
    """Return the checked answer to an invocation: it can be sent, and clients can parse it.

    Raises:
        KeyError, TypeError, ValueError: it is not such an answer.
    """
    status = _whole_number(reply["status"])
    if not 200 <= status <= 599:
        raise ValueError(f"an answer with status {status}")
    media_type = reply["content_type"]
    if status in STATUSES_WITHOUT_BODY and (body or media_type):
        raise ValueError(f"an answer with status {status} and a body")
    if media_type:
        checked_header("content-type", media_type)
    headers = {str(name).lower(): checked_header(name, value) for name, value in reply["headers"]}
    if len(headers) != len(reply["headers"]) or "content-type" in headers:
        raise ValueError("an answer with a header twice")
    decoding, predicting, encoding = (float(seconds) for seconds in reply["stages"])
    if not all(0 <= seconds < float("inf") for seconds in (decoding, predicting, encoding)):
        raise ValueError("an answer with a time that is none")
    n_rows = _whole_number(reply["n_rows"])
    stages = (decoding, predicting, encoding)
    return Answer(body, str(media_type), n_rows, stages, status, tuple(headers.items()))


def _whole_number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no whole number")
    return value
