"""Memory budget: the limit of all models, the footprint of one, and the release of freed memory.

glibc's allocator keeps freed memory: of a model of 20 MB nothing was returned to the system before
`malloc_trim`, and all of it after.
"""

import ctypes
import gc
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from container import cgroup
from container.allocator import release_free_memory
from container.settings import Settings

_SHARE_OF_MODELS = 0.8
_STATUS_FILE = Path("/proc/self/status")
# Freed memory is returned to the system in amounts of at least so much: `malloc_trim` walks the
# whole heap, 8 ms for 100 MB.
_TRIM_BYTES = 4 * 2**20
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
    """Return glibc, or None with another C library."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _MallocInfo
    return library


class Footprint(NamedTuple):
    """Private memory of this process."""

    resident_bytes: int  # anonymous pages
    allocated_bytes: int  # by the C library's allocator

    def growth_since(self, before: "Footprint") -> int:
        """Return the growth in bytes, at least a page."""
        # Pages alone miss a model that fits into memory the allocator already has; the allocator
        # alone misses memory that a library maps by itself.
        growth = (now - then for now, then in zip(self, before, strict=True))
        return max(PAGE_BYTES, *growth)


def footprint() -> Footprint:
    """Measure this process, after garbage is collected and freed memory is returned."""
    gc.collect()
    release_free_memory()
    library = _libc()
    allocated = 0
    if library is not None:
        info = library.mallinfo2()
        allocated = info.uordblks + info.hblkhd
    return Footprint(_status("RssAnon:"), allocated)


class Trimmer:
    """Returns freed memory to the system when it is enough to be worth the walk."""

    def __init__(self) -> None:
        self._n_bytes = 0

    def freed(self, n_bytes: int) -> None:
        """Count a model of `n_bytes` that has been freed; called in the thread that frees."""
        self._n_bytes += n_bytes
        if self._n_bytes >= _TRIM_BYTES:
            self._n_bytes = 0
            release_free_memory()


def model_bytes(settings: Settings, n_workers: int) -> int:
    """Return the bytes that the models of one worker may take.

    It is an equal share of BYOA_MODEL_MEMORY_MB, or of the memory granted less that of the server.
    Called before the workers are forked: each is estimated to need as much as this process.
    """
    total = settings.model_memory_bytes
    if total is None:
        granted = cgroup.memory_bytes()
        base = _status("VmRSS:") * (n_workers + 1)
        total = int(_SHARE_OF_MODELS * max(0, granted - base))
    return total // n_workers


def _status(name: str) -> int:
    fields = _STATUS_FILE.read_text().split()
    return int(fields[fields.index(name) + 1]) * 1024
