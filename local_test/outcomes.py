"""Outcomes of a program: it ran to its end, was stopped, or did not do as expected."""

from dataclasses import dataclass
from enum import StrEnum

SHOWN_LINES = 50


class BackendError(Exception):
    """A backend could not do what it was asked; the message is for the person who asked."""


class PortInUseError(BackendError):
    """Somebody else listens on the port that was asked for."""


class UnreachableServerError(BackendError):
    """No address leads from this machine to the server, as with ``--network none``."""


class ProgramError(BackendError):
    """A program did not do what was expected of it.

    Attributes:
        output: Everything that it had written by then; the message ends with the last lines.
        exit_code: ``None`` when it was still running.
    """

    def __init__(self, problem: str, *, output: str, exit_code: int | None) -> None:
        super().__init__(f"{problem}; {_last_lines(output)}")
        self.output = output
        self.exit_code = exit_code


class ServerStartError(ProgramError):
    """The server ended, or answered no ping with 200 in time."""


class ProgramTimeoutError(ProgramError, TimeoutError):
    """The program was still running when the time was over."""


class EndedBy(StrEnum):
    """Cause of the end of a program after a request to stop."""

    ITSELF = "itself"  # it was gone before anything was sent
    SIGTERM = "SIGTERM"
    SIGKILL = "SIGKILL"  # it outlived its grace time


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A program that ran to its end; ``output`` is stdout and stderr together, as in CloudWatch."""

    exit_code: int
    output: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """End of a program after a request to stop; the duration counts from the signal."""

    exit_code: int
    ended_by: EndedBy
    duration_seconds: float


def _last_lines(output: str) -> str:
    lines = output.rstrip("\n").split("\n")
    if lines == [""]:
        return "it wrote nothing"
    shown = lines[-SHOWN_LINES:]
    title = f"its last {len(shown)} lines" if len(shown) < len(lines) else "its output"
    return "\n".join([f"{title}:", *shown])
