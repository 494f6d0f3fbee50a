"""The processes that a model's code has started: they end with the model process.

The model process and the fork server are child subreapers (`prctl(2)`): a process whose parent has
ended becomes a child of the model process, or of the fork server once the model process has ended,
whatever session or process group it has chosen. So all of them are found through `/proc`.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Container
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_STOPPING_SECONDS = 5.0


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_tree(root: int) -> None:
    """Kill a child of this process, and all descendants of it.

    They are stopped first: a stopped process starts no others, and frees no process id.
    """
    stopped: dict[int, None] = {}  # parents before their children
    deadline = time.monotonic() + _STOPPING_SECONDS
    while time.monotonic() < deadline:
        found = [process_id for process_id in _tree(root) if process_id not in stopped]
        if not found:
            break
        for process_id in found:
            _signal(process_id, signal.SIGSTOP)
            stopped[process_id] = None
    for process_id in stopped:
        _signal(process_id, signal.SIGKILL)


def end_orphans(own: Container[int]) -> None:
    """Kill and reap the children of this process that are not in `own`, with their descendants."""
    deadline = time.monotonic() + _STOPPING_SECONDS
    while time.monotonic() < deadline:
        orphans = [child for child in children(os.getpid()) if child not in own]
        if not orphans:
            return
        for orphan in orphans:
            end_tree(orphan)
        for orphan in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def children(parent: int) -> list[int]:
    """Return the process ids of the children of a process, zombies included."""
    found: list[int] = []
    for thread in _threads(parent):
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found


def _tree(root: int) -> list[int]:
    """Return a process and its descendants, parents before their children."""
    found = [root]
    for process_id in found:  # grows meanwhile
        found += children(process_id)
    return found


def _threads(process_id: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process_id}/task").iterdir())
    except OSError:
        return []


def _signal(process_id: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process_id, number)
