"""Bound on the memory of answers: records times outputs, checked before the prediction.

A body of a few bytes may hold thousands of records, and a model of a few kilobytes may predict
thousands of values for each. The answers that a process computes at a time stay within its share of
the container's free memory.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from container import cgroup
from container.allocator import release_free_memory
from container.errors import OutOfMemoryError, counted

# Answers of up to this number of values are not counted.
SMALL = 2**18
_BYTES_PER_VALUE = 64  # the prediction, a copy of it, and two copies of its text

_lock = threading.Lock()
_reserved = [0]  # bytes of the answers that this process is computing


@contextmanager
def room_for(n_rows: int, n_outputs: int) -> Iterator[None]:
    """Reserve the memory for an answer while it is computed.

    Args:
        n_rows: Records of the request.
        n_outputs: Values of the prediction of one record.
    Raises:
        OutOfMemoryError: there is not enough memory.
    """
    n_bytes = n_rows * n_outputs * _BYTES_PER_VALUE
    if n_rows * n_outputs <= SMALL:
        yield
        return
    with _lock:
        # Other workers, as many as there are CPUs, may reserve memory at the same time.
        share = cgroup.memory_available_bytes() // max(2, cgroup.cpu_count())
        # A lower bound: answers in progress have allocated between none and all of the memory that
        # they reserve, and `share` lacks what they have allocated.
        free = max(0, share - _reserved[0])
        if n_bytes > free:
            most = free // (n_outputs * _BYTES_PER_VALUE)
            remedy = f"send at most {counted(most, 'record')} at a time"
            if not most:
                remedy = "try again later, or give the container more memory"
            raise OutOfMemoryError(
                f"about {n_bytes >> 20} MiB are needed for {counted(n_rows, 'record')} of "
                f"{counted(n_outputs, 'predicted value')}; an answer may take "
                f"{free >> 20} MiB now; {remedy}"
            )
        _reserved[0] += n_bytes
    try:
        yield
    finally:
        with _lock:
            _reserved[0] -= n_bytes
        release_free_memory()
