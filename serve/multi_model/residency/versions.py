"""Sequence lock (seqlock) over the registry: a version for every model name, in shared memory.

A worker that has a model in its cache compares versions, in less than a microsecond, to see whether
the registry has changed: the model was deleted, or loaded again with other files. A name is hashed
to one of the cells; names that share a cell cost each other a look-up in the registry at most.

A version is odd while a change is under way. A writer that is killed half-way leaves it odd: an odd
version is never trusted, so that every worker asks the registry itself.
"""

import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

_N_CELLS = 2**16
_CELL_BYTES = 8
NEVER = -1
"""A version that no name ever has."""


class Versions:
    """Versions of all names, made before the workers are forked."""

    def __init__(self) -> None:
        # Reading or writing one aligned 64-bit cell is a single instruction: no reader sees half.
        self.cells = memoryview(mmap.mmap(-1, _N_CELLS * _CELL_BYTES)).cast("Q")

    @staticmethod
    def index(name: str) -> int:
        """Return the index of the version of `name` in `cells`."""
        return zlib.crc32(name.encode()) % _N_CELLS

    @contextmanager
    def change(self, name: str) -> Iterator[None]:
        """Change the registry's entry of `name` in the block; every worker looks it up again.

        The caller holds the registry's lock: one process at a time writes.
        """
        index = self.index(name)
        # Odd from before the change until after it: a reader that takes the version first and the
        # entry afterwards never keeps an old entry under a new version.
        self.cells[index] |= 1
        try:
            yield
        finally:
            self.cells[index] += 1


def is_settled(version: int) -> bool:
    """True if no change is under way: an entry that is read now may be kept for this version."""
    return version % 2 == 0
