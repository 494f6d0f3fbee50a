"""What the workers are answering, seen from the process that stops them.

Each worker holds a shared lock on one file while it answers; where the lock can be had alone,
nothing is being answered. A worker that dies gives its lock back.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "in-flight"


class InFlight:
    """One process's view of the file in `directory`, made where it is missing."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / _NAME).open("ab")

    def close(self) -> None:
        """Look no more."""
        self._file.close()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Held by a worker around each invocation."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def is_any(self) -> bool:
        """Whether a worker is answering at this moment."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False
