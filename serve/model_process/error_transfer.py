"""Errors of a model process as JSON, and back: the worker raises what the code has raised.

A model's code can forge any of them, for requests of its own model only.
"""

import traceback
from typing import Any

from container import errors
from container.errors import ContainerError
from container.host_paths import shorten

_MAX_TEXT = 20_000  # characters of a message or a traceback


class CodeError(Exception):
    """Any other exception of the model's code; its text is its traceback, for the log."""


def packed(error: BaseException) -> dict[str, Any]:
    """Describe an error in JSON."""
    text = "".join(traceback.format_exception(error))
    described: dict[str, Any] = {"traceback": _encodable(text[-_MAX_TEXT:])}
    if isinstance(error, ContainerError):
        described |= {
            "kind": type(error).__name__,
            "message": _encodable(error.message[:_MAX_TEXT]),
            "status": getattr(error, "status", None),
            "is_memory": isinstance(error.__cause__, MemoryError),
        }
    elif isinstance(error, MemoryError):
        described["kind"] = "MemoryError"
    return described


def unpacked(described: dict[str, Any]) -> Exception:
    """Return the error; its cause has the traceback of the model process.

    Raises:
        ValueError, TypeError: the description is not one of `packed`.
    """
    kind, text = described.get("kind"), described.get("traceback")
    if not isinstance(text, str):
        raise TypeError("an error without a traceback")
    trace = CodeError("\n" + _encodable(text[-_MAX_TEXT:]))
    if kind is None:
        return trace
    if kind == "MemoryError":
        return MemoryError()
    known = getattr(errors, str(kind), None)
    message, status = described.get("message"), described.get("status")
    if not (isinstance(known, type) and issubclass(known, ContainerError)):
        raise TypeError(f"an error of kind {kind!r}")
    if not isinstance(message, str):
        raise TypeError("an error without a message")
    error = known.__new__(known)  # each class makes its message of other arguments
    ContainerError.__init__(error, shorten(message[:_MAX_TEXT]))
    if isinstance(error, errors.UserCodeError):
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"an error with status {status!r}")
        error.status = status
    error.__cause__ = MemoryError() if described.get("is_memory") else trace
    return error


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
