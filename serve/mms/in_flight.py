"""Requests in flight in the workers of multi-model-server, as seen by the launcher.

Each worker holds a shared lock on one file while it answers; if the launcher gets an exclusive
lock, nothing is in flight. The kernel releases the lock of a worker that is killed.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "in-flight"


class InFlight:
    """The lock file in `directory`, which is made if it is missing."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / _NAME).open("ab")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Hold the shared lock: for a worker, around each invocation."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def is_any(self) -> bool:
        """True if a worker is answering at this moment."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False
