"""Pipe mode: FIFOs that the platform fills, one an epoch, `<channel>_0`, `<channel>_1`, … (C-019)

A FIFO may appear late and its writer later still. `open_pipe` waits for both, ten minutes in all,
which is more than the platform takes to start a job. One reader reads a FIFO once, and may close it
before its end (C-020).

Source: AWS SageMaker developer guide, "How Amazon SageMaker AI Provides Training Information"
(Pipe mode).
"""

import contextlib
import fcntl
import io
import logging
import os
import select
import time
from pathlib import Path
from typing import cast

from container.errors import ChannelError

logger = logging.getLogger(__name__)

WAIT_SECONDS = 600.0
_LOOK_SECONDS = 0.1
_LOG_SECONDS = 30.0
# The most that the kernel gives an ordinary user; a FIFO has 64 KiB at first.
_CAPACITY_BYTES = 2**20


class Pipe(io.RawIOBase):
    """FIFO open for reading, which logs a warning when no data comes for long."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: object) -> int:
        while not self._poll.poll(_LOG_SECONDS * 1000):
            logger.warning("pipe_is_silent", extra={"pipe": self.name, "seconds": _LOG_SECONDS})
        return os.readv(self._descriptor, [cast(bytearray, buffer)])

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_pipe(path: Path, *, channel: str, wait_seconds: float = WAIT_SECONDS) -> Pipe:
    """Open a FIFO after it exists and has a writer.

    Raises:
        ChannelError: it does not exist or has no writer after `wait_seconds`.
    """
    waiting = _Waiting(path.name, channel, wait_seconds)
    while True:
        try:
            # Without O_NONBLOCK `open` would wait for a writer for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except FileNotFoundError:
            waiting.go_on("does not exist")
            time.sleep(_LOOK_SECONDS)
    try:
        _wait_for_writer(descriptor, waiting)
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CAPACITY_BYTES)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return Pipe(descriptor, path.name)


def _wait_for_writer(descriptor: int, waiting: "_Waiting") -> None:
    """Wait for the first byte, or for the end of a FIFO that was closed without one.

    A FIFO that nobody has opened for writing yet reads as if it were at its end; poll(2) tells the
    two apart: it reports a hang-up only after there has been a writer.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(1000):
        waiting.go_on("has no writer")


class _Waiting:
    """Timeout and log of the wait for one FIFO."""

    def __init__(self, pipe: str, channel: str, seconds: float) -> None:
        self._pipe = pipe
        self._channel = channel
        self._seconds = seconds
        self._began = time.monotonic()
        self._logged = 0.0

    def go_on(self, state: str) -> None:
        """Log the wait now and then; raise `ChannelError` after the timeout."""
        now = time.monotonic()
        if now - self._began > self._seconds:
            raise ChannelError(
                f"channel {self._channel!r}: the FIFO input/data/{self._pipe} {state} after "
                f"{self._seconds:g} s; Pipe mode needs one an epoch, and a writer that fills it"
            )
        if now - self._logged > _LOG_SECONDS:
            self._logged = now
            logger.info(
                "pipe_waited_for",
                extra={"channel": self._channel, "pipe": self._pipe, "state": state},
            )
