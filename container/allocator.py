"""The C library's allocator: freed memory that stays this process's, and what it is filled with."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _PERTURB = -1, -3, -6  # parameters of mallopt(3)
_LARGE_BYTES = 4 * 2**20


def give_back() -> None:
    """Return free memory to the system, where the C library can be told to."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def return_large_blocks() -> None:
    """Have blocks of 4 MiB and more returned to the system as soon as they are freed.

    glibc raises its own limit to up to 32 MiB as such blocks come and go, and keeps what is
    smaller: after large answers hundreds of megabytes. Inherited by forked processes.
    """
    _set(_MMAP_THRESHOLD, _LARGE_BYTES)
    _set(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def fill_with_pattern() -> None:
    """Have memory filled with a pattern when it is allocated and freed.

    What is read beyond a buffer or after it was freed is then no harmless zero, and a broken heap
    is found out when it is next looked through.
    """
    _set(_PERTURB, 0xA5)


def _set(parameter: int, value: int) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(parameter, value)
