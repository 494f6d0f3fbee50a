"""How much memory models may have, how much one takes, and how it is given back.

glibc keeps what a freed model leaves: of a model of 20 MB nothing came back to the system before
`malloc_trim`, and all of it after.
"""

import ctypes
import gc
import os
import resource
from functools import cache
from pathlib import Path
from typing import NamedTuple

from container import cgroup
from container.allocator import give_back
from container.settings import Settings

_SHARE_OF_MODELS = 0.8
_STATUS_FILE = Path("/proc/self/status")
# What is freed in smaller amounts is given back when it has come to so much: `malloc_trim` looks
# through the whole heap, 8 ms of 100 MB.
_TRIM_BYTES = 4 * 2**20
_ARENA_MAX = -8  # M_ARENA_MAX of mallopt(3)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@cache
def _libc() -> ctypes.CDLL | None:
    """glibc, or None with another C library."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _MallocInfo
    return library


class Footprint(NamedTuple):
    """The memory of this process's own."""

    resident_bytes: int  # anonymous pages
    allocated_bytes: int  # of the C library's heap

    def growth_since(self, before: "Footprint") -> int:
        """By how many bytes it is larger; at least a page."""
        growth = (now - then for now, then in zip(self, before, strict=True))
        return max(PAGE_BYTES, *growth)


def footprint() -> Footprint:
    """What this process has now, without what it could give back."""
    gc.collect()
    give_back()
    library = _libc()
    allocated = 0
    if library is not None:
        info = library.mallinfo2()
        allocated = info.uordblks + info.hblkhd
    return Footprint(_status("RssAnon:"), allocated)


def limit_to_what_is_free() -> None:
    """Let this process take no more than what is free now, or than it was allowed before."""
    # What is limited is private memory that can be written to, whether used or not.
    limit = _status("VmData:") + cgroup.memory_available_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:  # `docker run --ulimit data=…`
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def share_one_heap() -> None:
    """Have all threads allocate from one heap: of others `malloc_trim` leaves the end as it is.

    Called before there are threads, and inherited by forked processes.
    """
    library = _libc()
    if library is not None:
        library.mallopt(_ARENA_MAX, 1)


class Returns:
    """Gives memory back when there is enough of it to be worth the effort."""

    def __init__(self) -> None:
        self._n_bytes = 0

    def freed(self, n_bytes: int) -> None:
        """Say that a model has been freed; may be called from any thread."""
        self._n_bytes += n_bytes
        if self._n_bytes >= _TRIM_BYTES:
            self._n_bytes = 0
            give_back()


def model_bytes(settings: Settings, n_workers: int) -> int:
    """What the models of one worker may take: its share of the setting, or of what is granted.

    Called before the workers are forked: each is taken to need what this process has.
    """
    total = settings.model_memory_bytes
    if total is None:
        granted = cgroup.memory_bytes()
        base = _status("VmRSS:") * (n_workers + 1)
        total = int(_SHARE_OF_MODELS * max(0, granted - base))
    return total // n_workers


def _status(name: str) -> int:
    words = _STATUS_FILE.read_text().split()
    return int(words[words.index(name) + 1]) * 1024
