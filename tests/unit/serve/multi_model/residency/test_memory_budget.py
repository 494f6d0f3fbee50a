import ctypes

import pytest

from container import cgroup
from container.settings import Settings
from serve.multi_model.residency import memory_budget
from serve.multi_model.residency.memory_budget import Footprint, Trimmer

MEBIBYTE = 2**20


def test_growth_is_what_was_allocated_and_is_still_held() -> None:
    """Counts small and large allocations, but none freed again (C-081)."""
    before = memory_budget.footprint()
    small = [bytes(2000) for _ in range(5000)]
    with_small = memory_budget.footprint()
    large = bytearray(b"\1" * (20 * MEBIBYTE))
    with_both = memory_budget.footprint()
    del large
    after = memory_budget.footprint()

    assert 9 * MEBIBYTE < with_small.growth_since(before) < 14 * MEBIBYTE
    assert 19 * MEBIBYTE < with_both.growth_since(with_small) < 21 * MEBIBYTE
    assert after.growth_since(with_small) < MEBIBYTE
    assert len(small) == 5000


def test_growth_is_at_least_a_page() -> None:
    """Counts at least a page for any model (C-081)."""
    assert Footprint(5, 5).growth_since(Footprint(5, 9)) == memory_budget.PAGE_BYTES
    assert Footprint(9000, 5).growth_since(Footprint(0, 0)) == 9000


def test_free_heap_is_given_back_to_the_system() -> None:
    """Returns to the system memory that glibc keeps (C-085)."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    n_bytes = 100_000  # below the size that is mapped, and so released, by itself
    blocks, kept = [], []
    for _ in range(500):
        blocks.append(libc.malloc(n_bytes))
        kept.append(libc.malloc(2000))  # so that what is freed is a hole in the heap
        libc.memset(blocks[-1], 1, n_bytes)
    for block in blocks:
        libc.free(block)
    before = memory_budget._status("RssAnon:")

    memory_budget.release_free_memory()

    assert before - memory_budget._status("RssAnon:") > 30 * MEBIBYTE
    for block in kept:
        libc.free(block)


def test_memory_is_given_back_when_enough_has_come_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Does not walk the heap for each small model (C-085)."""
    given_back = []
    monkeypatch.setattr(memory_budget, "release_free_memory", lambda: given_back.append(True))
    trimmer = Trimmer()

    for _ in range(7):
        trimmer.freed(MEBIBYTE)
    assert len(given_back) == 1
    trimmer.freed(100 * MEBIBYTE)
    assert len(given_back) == 2


def test_workers_share_the_memory_of_the_setting() -> None:
    """Divides BYOA_MODEL_MEMORY_MB among the workers (C-081)."""
    assert (
        memory_budget.model_bytes(Settings(model_memory_bytes=100 * MEBIBYTE), 4) == 25 * MEBIBYTE
    )


def test_default_is_four_fifths_of_what_the_server_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates each worker as large as this process (C-081)."""
    monkeypatch.setattr(cgroup, "memory_bytes", lambda: 1000 * MEBIBYTE)
    monkeypatch.setattr(memory_budget, "_status", lambda name: 50 * MEBIBYTE)

    assert memory_budget.model_bytes(Settings(), 2) == int(0.8 * 850 * MEBIBYTE) // 2

    monkeypatch.setattr(cgroup, "memory_bytes", lambda: 100 * MEBIBYTE)
    assert memory_budget.model_bytes(Settings(), 2) == 0
