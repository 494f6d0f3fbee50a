"""Memory that is free and still this process's: glibc keeps what was freed, for later use."""

import ctypes


def give_back() -> None:
    """Return free memory to the system, where the C library can be told to."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
