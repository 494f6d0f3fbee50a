"""Store of the parsed records of a channel, written once and read many times.

Records stay in memory while the job's share of memory holds all of them. Otherwise all go to an
unnamed temporary file, since the framework is short of memory then. Small batches are joined: the
framework's cost of a batch does not depend on its size.
"""

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from container.codecs.records import Batch, SparseRows
from train.input.parsing import batches
from train.input.scratch import Scratch

_JOINED_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class _Filed:
    """Position and layout of a batch in the file."""

    file: IO[bytes]
    offset: int
    form: bytes
    lengths: list[int]

    @property
    def n_bytes(self) -> int:
        return sum(map(batches.padded, self.lengths))


class RecordStore:
    """Records of one channel: `append` all, then call `batches` any number of times."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._stored: list[Batch | _Filed] = []
        self._joining: list[Batch] = []
        self._joining_bytes = 0
        self._file: IO[bytes] | None = None
        self._file_bytes = 0
        self._memory_bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes kept in memory."""
        return self._memory_bytes

    @property
    def file_bytes(self) -> int:
        """Bytes written to the file."""
        return self._file_bytes

    def append(self, batch: Batch) -> None:
        """Store the next records; the batch's arrays are kept and must not change.

        Raises:
            OSError: the disk is full.
        """
        if self._joining and not _are_alike(self._joining[-1], batch):
            self.flush()
        self._joining.append(batch)
        self._joining_bytes += batches.n_bytes(batch)
        if self._joining_bytes >= _JOINED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store the batches that wait to be joined; call it after the last batch."""
        if not self._joining:
            return
        batch = batches.join(self._joining)
        self._joining, self._joining_bytes = [], 0
        n_bytes = batches.n_bytes(batch)
        if self._file is None and self._scratch.keep_in_memory(n_bytes):
            self._stored.append(batch)
            self._memory_bytes += n_bytes
            return
        file = self._file or self._move_to_file()
        self._stored.append(self._write(batch, file))

    def batches(self) -> Iterator[Batch]:
        """All records, in the order in which they were stored."""
        for stored in self._stored:
            yield stored if isinstance(stored, Batch) else _read(stored)

    def close(self) -> None:
        """Release all memory and the file."""
        self._release()
        self._stored.clear()
        self._joining.clear()
        if self._file is not None:
            self._file.close()

    def _move_to_file(self) -> IO[bytes]:
        file = self._file = self._scratch.open_file()
        weakref.finalize(self, file.close)
        for number, batch in enumerate(self._stored):
            if isinstance(batch, Batch):  # as all are until now
                self._stored[number] = self._write(batch, file)
        self._release()
        return file

    def _release(self) -> None:
        self._scratch.release(self._memory_bytes)
        self._memory_bytes = 0

    def _write(self, batch: Batch, file: IO[bytes]) -> _Filed:
        packed = batches.pack(batch)
        offset = self._file_bytes
        for buffer in packed.buffers:
            _write_all(file.fileno(), buffer, self._file_bytes)
            self._file_bytes += batches.padded(len(buffer))
        return _Filed(file, offset, packed.form, packed.lengths)


def _read(filed: _Filed) -> Batch:
    memory = np.empty(filed.n_bytes, dtype=np.uint8).data
    _read_all(filed.file.fileno(), memory[: _end(filed.lengths)], filed.offset)
    return batches.unpack(filed.form, filed.lengths, memory)


def _are_alike(first: Batch, second: Batch) -> bool:
    """True if two batches can be joined: both sparse, or both dense and equally wide."""
    sparse = {isinstance(batch.features, SparseRows) for batch in (first, second)}
    return sparse == {True} or (sparse == {False} and first.n_features == second.n_features)


def _end(lengths: list[int]) -> int:
    """Return the offset at which the last array ends, without padding: the file may end there."""
    return sum(map(batches.padded, lengths[:-1])) + (lengths[-1] if lengths else 0)


def _write_all(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Write all bytes: one system call writes 2 GiB at most, and less when a disk gets full."""
    while buffer:
        n_bytes = os.pwrite(descriptor, buffer, offset)
        buffer, offset = buffer[n_bytes:], offset + n_bytes


def _read_all(descriptor: int, memory: memoryview, offset: int) -> None:
    while memory:
        n_bytes = os.preadv(descriptor, [memory], offset)
        if not n_bytes:
            raise OSError("a temporary file is shorter than what was written to it")
        memory, offset = memory[n_bytes:], offset + n_bytes
