"""Tuning of the C library's allocator: return of freed memory, and fill patterns."""

import ctypes

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _PERTURB, _ARENA_MAX = -1, -3, -6, -8
_LARGE_BYTES = 4 * 2**20


def release_free_memory() -> None:
    """Return freed memory to the system (`malloc_trim`, glibc only)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def return_large_blocks() -> None:
    """Have blocks of 4 MiB and more returned to the system as soon as they are freed.

    glibc raises its own limit to up to 32 MiB as such blocks come and go, and keeps smaller blocks:
    after large answers hundreds of megabytes. Inherited by forked processes.
    """
    _set(_MMAP_THRESHOLD, _LARGE_BYTES)
    _set(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def share_one_arena() -> None:
    """Let all threads allocate from one arena: `malloc_trim` does not shrink the others.

    Called before there are threads; forked processes inherit it. An hour of full load made workers
    of several arenas grow by 10 MB, and those of one arena not at all.
    """
    _set(_ARENA_MAX, 1)


def fill_with_pattern() -> None:
    """Have memory filled with a pattern when it is allocated and freed.

    A read beyond a buffer or after a free then does not find harmless zeros, and glibc detects a
    corrupted heap at its next check.
    """
    _set(_PERTURB, 0xA5)


def _set(parameter: int, value: int) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(parameter, value)
