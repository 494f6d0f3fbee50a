"""Note of the file that a native reader is reading, for the supervisor of a job that it crashes.

A C++ library may end the process on a broken file. The note lies in memory that the job shares with
its supervisor, which then writes the failure file.
"""

import contextlib
import mmap
from collections.abc import Iterator

_NOTE_BYTES = 512  # of a failure file, the platform shows 1024


class _Note:
    """Shared memory of supervisor and job; None in a process without a supervisor."""

    memory: mmap.mmap | None = None


def share() -> None:
    """Allocate the memory; the supervisor calls it before it forks the job."""
    _Note.memory = mmap.mmap(-1, _NOTE_BYTES)


@contextlib.contextmanager
def reading(channel: str, source: str) -> Iterator[None]:
    """Set the note to this source within the context."""
    _write(f"channel {channel!r}, {source}")
    try:
        yield
    finally:
        _write("")


def note() -> str:
    """Return the source that is being read, or was when the process crashed; empty if none."""
    if _Note.memory is None:
        return ""
    return _Note.memory[:].rstrip(b"\0").decode(errors="replace")


def _write(text: str) -> None:
    if _Note.memory is not None:
        note = text.encode(errors="backslashreplace")[:_NOTE_BYTES]
        _Note.memory[:] = note.ljust(_NOTE_BYTES, b"\0")
