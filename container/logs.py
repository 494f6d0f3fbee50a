"""Logging: one JSON object a line on standard output, the only output that the platform collects.

The message of a record is its constant event name in snake_case; facts go into `extra`, so that
lines can be grouped: `logger.info("model_loaded", extra={"n_features": 30})`. Only the two entry
points configure; everything else calls `logging.getLogger(__name__)`.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from pythonjsonlogger.json import JsonFormatter


class _Formatter(JsonFormatter):
    """Formatter of `time`, `level`, `logger`, `event`, then the facts, in that order."""

    def __init__(self, redact: Callable[[str], str] | None) -> None:
        super().__init__(
            fmt=["asctime", "levelname", "name", "message"],
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "message": "event",
            },
        )
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return self._redact(line) if self._redact else line

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        super().add_fields(log_data, record, message_dict)
        # The base class drops names with a leading underscore; CloudWatch needs this one.
        if "_aws" in record.__dict__:
            log_data["_aws"] = record.__dict__["_aws"]

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")


class _Handler(logging.StreamHandler[TextIO]):
    """Handler that ignores a standard output without a reader (a broken pipe)."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def configure(level: int, redact: Callable[[str], str] | None = None) -> None:
    """Send every record at or above `level` to standard output. Called once per process.

    `redact` receives every line, and returns it without secrets.
    """
    handler = _Handler(sys.stdout)
    handler.setFormatter(_Formatter(redact))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addFilter(_as_event)


def _as_event(record: logging.LogRecord) -> bool:
    """Give a Python warning a constant event name, and its text as a fact."""
    record.text = " ".join(record.getMessage().split())
    record.msg, record.args = "python_warning", ()
    return True


def line(logger: logging.Logger, event: str, facts: Mapping[str, object]) -> bytes:
    """Return a line at level info, made without the logging module; empty if the level is off.

    For events of thousands a second: the line is the same, and takes 3 µs instead of 15.
    """
    if not logger.isEnabledFor(logging.INFO):
        return b""
    content = {
        "time": datetime.now(UTC),
        "level": "INFO",
        "logger": logger.name,
        "event": event,
        **facts,
    }
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def write_lines(lines: bytes) -> None:
    """Write lines that `line` made; ignores a standard output without a reader."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


def write(logger: logging.Logger, event: str, facts: Mapping[str, object]) -> None:
    """Write one `line`."""
    write_lines(line(logger, event, facts))
