"""A version for every model name, in memory that all processes share.

A worker that has a model in hand asks here, for less than a microsecond, whether the registry has
changed under it: deleted, or loaded anew with other files. Names are hashed to places; two that
meet in one place only cost each other a look into the registry.

A version is odd while its change is under way. Whoever changes a name is killed half-way at worst,
and then it stays odd: nobody trusts an odd version, so everybody asks the registry itself.
"""

import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

_N_PLACES = 2**16
_CELL_BYTES = 8
NEVER = -1
"""A version that no name ever has."""


class Versions:
    """Made once, before the workers are forked."""

    def __init__(self) -> None:
        self.cells = memoryview(mmap.mmap(-1, _N_PLACES * _CELL_BYTES)).cast("Q")

    @staticmethod
    def place(name: str) -> int:
        """Where the version of `name` is in `cells`."""
        return zlib.crc32(name.encode()) % _N_PLACES

    @contextmanager
    def change(self, name: str) -> Iterator[None]:
        """Make everybody look again, from the beginning of the block on.

        The caller lets one process at a time do so.
        """
        place = self.place(name)
        self.cells[place] |= 1
        try:
            yield
        finally:
            self.cells[place] += 1


def is_settled(version: int) -> bool:
    """Whether what the registry says now may be remembered under this version."""
    return version % 2 == 0
