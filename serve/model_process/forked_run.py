"""A process that the fork server has forked for a worker, and the report of a validation run."""

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.model_process.fork_messages import Failure, Success, decoded
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

_MAX_REPORT_BYTES = 2**16
_UNREADABLE = "the validation run of the model wrote something else than its report"


@dataclass(slots=True, eq=False)
class Run:
    """A process that was forked for a worker."""

    client: socket.socket
    began: float
    report: int = -1  # of a validation run: the read end of its pipe
    user: int = 0  # of a model process: its index
    working_directory: Path | None = None
    is_ready: bool = False  # the model is loaded
    is_late: bool = False

    @property
    def deadline(self) -> float:
        """Time limit of a validation run; a model process has that of its worker."""
        return self.began + MODEL_TIMEOUT_SECONDS if self.report >= 0 else float("inf")


def reported(run: Run, status: int) -> dict[str, Any]:
    """Read the report of a validation run that has ended.

    Args:
        status: Of `os.waitpid`.
    Returns:
        Members of `Answer`; none for a child without a report, of which `status` says all.
    """
    received = b""
    with contextlib.suppress(BlockingIOError):  # a process that it started has the pipe open, too
        while len(received) <= _MAX_REPORT_BYTES and (piece := os.read(run.report, 4096)):
            received += piece
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code < 0 or not received:
        return {}
    with contextlib.suppress(ValueError):
        if exit_code:
            return decoded(Failure, received)._asdict()
        return decoded(Success, received)._asdict()
    return Failure(_UNREADABLE, is_memory=False)._asdict()
