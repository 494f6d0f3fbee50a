"""Records kept in memory, then on disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from container.codecs.records import Batch, SparseRows
from train.input import record_store
from train.input.parsing import batches
from train.input.record_store import RecordStore
from train.input.scratch import Scratch


def _dense(n_rows: int, start: int) -> Batch:
    numbers = np.arange(start, start + 3 * n_rows, dtype=np.float32)
    return Batch(numbers.reshape(n_rows, 3), labels=numbers[:n_rows], weights=numbers[:n_rows])


def _sparse(n_rows: int) -> Batch:
    rows = SparseRows(
        offsets=np.arange(n_rows + 1, dtype=np.int64),
        columns=np.arange(n_rows, dtype=np.int32),
        values=np.arange(n_rows, dtype=np.float32),
        n_columns=n_rows,
    )
    return Batch(rows, labels=np.ones(n_rows, dtype=np.float32))


def _numbers(given: Iterator[Batch]) -> dict[str, list[float]]:
    """Everything in the batches, whatever their borders."""
    found: dict[str, list[float]] = {"features": [], "labels": [], "weights": []}
    for batch in given:
        for name, values in found.items():
            array = getattr(batch, name)
            values.extend(array.ravel().tolist() if array is not None else [])
    return found


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store, "_JOINED_BYTES", 1000)


@pytest.mark.parametrize("memory_bytes", [10**9, 20_000, 1])
def test_store_returns_the_records_that_were_stored(tmp_path: Path, memory_bytes: int) -> None:
    """In memory, on disk, and on disk after a while in memory; as often as it is asked."""
    store = RecordStore(Scratch(tmp_path, memory_bytes=memory_bytes))
    given = [_dense(n_rows, start) for start, n_rows in enumerate([1, 50, 7, 300, 2, 100])]

    for batch in given:
        store.append(batch)
    store.flush()

    assert _numbers(store.batches()) == _numbers(iter(given))
    assert _numbers(store.batches()) == _numbers(iter(given))
    n_bytes = sum(batch.n_rows for batch in given) * 5 * 4
    assert n_bytes <= store.memory_bytes + store.file_bytes <= n_bytes + 200  # padding
    assert (store.file_bytes == 0) == (memory_bytes == 10**9)
    assert (store.memory_bytes == 0) == (memory_bytes != 10**9)


@pytest.mark.parametrize("memory_bytes", [10**9, 1])
def test_store_joins_sparse_rows(tmp_path: Path, memory_bytes: int) -> None:
    """Rows keep their cells, and the width is that of the widest part."""
    store = RecordStore(Scratch(tmp_path, memory_bytes=memory_bytes))

    for n_rows in (2, 3, 1):
        store.append(_sparse(n_rows))
    store.flush()

    (batch,) = store.batches()
    rows = batch.features
    assert isinstance(rows, SparseRows)
    assert rows.shape == (6, 3)
    assert rows.offsets.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert rows.columns.tolist() == [0, 1, 0, 1, 2, 0]
    assert rows.values.tolist() == [0, 1, 0, 1, 2, 0]


def test_store_does_not_join_what_does_not_fit_together(tmp_path: Path) -> None:
    """Dense and sparse records, or dense ones of two widths, stay apart."""
    store = RecordStore(Scratch(tmp_path, memory_bytes=10**9))
    narrow = Batch(np.ones((1, 2), dtype=np.float32), labels=np.ones(1, dtype=np.float32))

    for batch in (_dense(1, 0), narrow, _sparse(1)):
        store.append(batch)
    store.flush()

    assert [batch.n_features for batch in store.batches()] == [3, 2, 1]


def test_store_on_disk_leaves_its_memory_to_others(tmp_path: Path) -> None:
    """A second channel may still be small enough."""
    scratch = Scratch(tmp_path, memory_bytes=20_000)
    large, small = RecordStore(scratch), RecordStore(scratch)

    for start in range(10):
        large.append(_dense(50, start))
    large.flush()
    small.append(_dense(200, 0))
    small.flush()

    assert (large.memory_bytes, small.file_bytes) == (0, 0)


def test_closed_store_releases_its_memory(tmp_path: Path) -> None:
    """A reading that was broken off does not count against the next."""
    scratch = Scratch(tmp_path, memory_bytes=20_000)
    for _ in range(5):
        store = RecordStore(scratch)
        store.append(_dense(200, 0))
        store.flush()
        assert store.memory_bytes > 0
        store.close()


@pytest.mark.parametrize(
    "batch",
    [
        _dense(5, 1),
        _sparse(7),
        Batch(np.ones((3, 1), dtype=np.float32)),
        Batch(np.ones((0, 2), dtype=np.float32), labels=np.ones(0, dtype=np.float32)),
    ],
)
def test_size_of_a_batch_is_that_of_its_bytes(batch: Batch) -> None:
    """The size in memory is the size in a file."""
    assert batches.n_bytes(batch) == batches.pack(batch).n_bytes
