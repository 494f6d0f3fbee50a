"""A program of the user as a child process: signals, exit code, and the end of its stderr.

stdout is that of the job. stderr is relayed as it comes, and its end is kept for the failure file.
The child leads a process group, which gets SIGTERM: a shell does not pass it on to the program that
it waits for. The group has ended when `run` returns, so that no helper outlives the job.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

# Of the 120 s between SIGTERM and SIGKILL, for the other processes of the group to save.
GRACE_SECONDS = 100.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TAIL_BYTES = 2**16
_CHUNK_BYTES = 2**16
_PAUSE_SECONDS = 0.05
_DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a program.

    Args:
        exit_code: Its own, or 128 + N if signal N ended it.
        stderr: The end of its standard error as lines, at most 64 KiB.
        was_stopped: True if the job got SIGTERM while it ran.
    """

    exit_code: int
    stderr: Sequence[str]
    was_stopped: bool


def run(command: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> Ended:
    """Run the command to its end, and forward SIGTERM to it. Call it in the main thread.

    Raises:
        OSError, ValueError: it cannot be started.
    """
    libc = ctypes.CDLL(None)
    job = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != job:
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the supervisor's child ignores it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    was_stopped = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until there is a child to forward it to
    try:
        with subprocess.Popen(  # noqa: S603  the program that the job names
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
            preexec_fn=in_child,
        ) as child:
            tail = _Tail(child.stderr)

            def forward(signum: int, frame: FrameType | None) -> None:
                was_stopped.set()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)

            signal.signal(signal.SIGTERM, forward)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            code = child.wait()
            _end_group(child.pid, is_stopping=was_stopped.is_set())
            lines = tail.lines()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    return Ended(code if code >= 0 else 128 - code, lines, was_stopped.is_set())


def _end_group(group: int, *, is_stopping: bool) -> None:
    """Let the rest of the group end after SIGTERM, then kill it."""
    deadline = time.monotonic() + (GRACE_SECONDS if is_stopping else 0.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(_PAUSE_SECONDS)
        os.killpg(group, signal.SIGKILL)


class _Tail:
    """Thread that copies a stream to stderr and keeps its end."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None  # noqa: S101  for the type checker: it is a pipe
        self._end = bytearray()
        self._thread = threading.Thread(target=self._copy, args=(stream,), daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        """Return the kept lines once the stream has ended; a daemon may hold it open for longer."""
        self._thread.join(_DRAIN_SECONDS)
        return bytes(self._end).decode("utf-8", "replace").splitlines()

    def _copy(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under a daemon that holds it open
            while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
                self._end += chunk
                del self._end[:-_TAIL_BYTES]
                with contextlib.suppress(OSError):  # nobody reads the log
                    sys.stderr.buffer.write(chunk)
                    sys.stderr.buffer.flush()
