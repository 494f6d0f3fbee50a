"""Batches as bytes, for a file or another process, and several batches as one."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from container.codecs.records import Batch, Floats, SparseRows

T = TypeVar("T", bound=np.generic)

_ALIGNMENT = 8  # of the widest numbers, the offsets of sparse rows


@dataclass(frozen=True, slots=True)
class Packed:
    """Serialised batch: its pickled form, and the memory of its arrays."""

    form: bytes
    buffers: list[memoryview]

    @property
    def lengths(self) -> list[int]:
        return [len(buffer) for buffer in self.buffers]

    @property
    def n_bytes(self) -> int:
        return sum(map(padded, self.lengths))


def padded(length: int) -> int:
    """Round a length up to the alignment of consecutive arrays."""
    return length + -length % _ALIGNMENT


def pack(batch: Batch) -> Packed:
    """Serialise a batch without copying its arrays."""
    buffers: list[pickle.PickleBuffer] = []
    form = pickle.dumps(batch, protocol=5, buffer_callback=buffers.append)
    return Packed(form, [buffer.raw() for buffer in buffers])


def unpack(form: bytes, lengths: Sequence[int], memory: memoryview) -> Batch:
    """Deserialise a batch; its arrays are views of `memory`, where they lie padded."""
    buffers, offset = [], 0
    for length in lengths:
        buffers.append(memory[offset : offset + length])
        offset += padded(length)
    # Safe: only `pack` in this very job made it.
    return cast(Batch, pickle.loads(form, buffers=buffers))  # noqa: S301


def n_bytes(batch: Batch) -> int:
    """Return the bytes that a batch's arrays take, padded; `pack` gives as many."""
    features = batch.features
    arrays: list[NDArray[Any] | None] = [batch.labels, batch.weights, batch.query_ids]
    if isinstance(features, SparseRows):
        arrays += [features.offsets, features.columns, features.values]
    else:
        arrays.append(features)
    return sum(padded(array.nbytes) for array in arrays if array is not None)


def join(batches: Sequence[Batch]) -> Batch:
    """Join the records of all batches; all are dense and equally wide, or all are sparse."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        _join_features([batch.features for batch in batches]),
        _join_numbers([batch.labels for batch in batches]),
        _join_numbers([batch.weights for batch in batches]),
        _join_numbers([batch.query_ids for batch in batches]),
    )


def _join_features(parts: Sequence[Floats | SparseRows]) -> Floats | SparseRows:
    sparse = [part for part in parts if isinstance(part, SparseRows)]
    if not sparse:
        return np.concatenate(cast(Sequence[Floats], parts))
    before = np.cumsum([0, *(len(part.values) for part in sparse)])
    offsets = [part.offsets[1:] + n for part, n in zip(sparse, before[:-1], strict=True)]
    return SparseRows(
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
        columns=np.concatenate([part.columns for part in sparse]),
        values=np.concatenate([part.values for part in sparse]),
        n_columns=max(part.n_columns for part in sparse),
    )


def _join_numbers(parts: Sequence[NDArray[T] | None]) -> NDArray[T] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
