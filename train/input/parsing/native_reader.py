"""Names the file that a native reader works on, for the parent of a job that the reader crashes.

A library in C++ may end the process on a broken file. The note is in memory that the job shares
with its parent, which writes the failure file then.
"""

import contextlib
import mmap
from collections.abc import Iterator

_NOTE_BYTES = 512  # of a failure file, the platform shows 1024


class _Note:
    """The memory, in the parent and in the child; None in a process without a parent of ours."""

    memory: mmap.mmap | None = None


def share() -> None:
    """Make the memory; called by the parent before it forks the job."""
    _Note.memory = mmap.mmap(-1, _NOTE_BYTES)


@contextlib.contextmanager
def reading(channel: str, source: str) -> Iterator[None]:
    """Have the note name this source while the context lasts."""
    _write(f"channel {channel!r}, {source}")
    try:
        yield
    finally:
        _write("")


def note() -> str:
    """What is being read, or was when the process crashed; empty where nothing is."""
    if _Note.memory is None:
        return ""
    return _Note.memory[:].rstrip(b"\0").decode(errors="replace")


def _write(text: str) -> None:
    if _Note.memory is not None:
        note = text.encode(errors="backslashreplace")[:_NOTE_BYTES]
        _Note.memory[:] = note.ljust(_NOTE_BYTES, b"\0")
