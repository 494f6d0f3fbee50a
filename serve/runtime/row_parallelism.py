"""Row blocks: one large prediction on all CPUs that this process may use.

A model predicts with one thread, so that many small requests share the CPUs well. A large body of
batch transform often comes alone. Its rows are cut into blocks, and several threads predict the
blocks in parallel. This is for algorithms that declare `predicts_row_blocks`: their `predict` uses
one thread and releases the interpreter lock. The threads are never stopped, because a library may
keep buffers for every thread that has ever called it, as XGBoost does.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container import cgroup
from container.algorithms.serving_contract import Model
from container.codecs.answers import Answers
from container.codecs.records import Floats, SparseRows, rows

# A block takes a millisecond or more, and handing it over 0.1 ms.
BLOCK_ROWS = 1024

Block = list[Callable[[], Any]]  # of one item, which the predicting thread removes


def predict(model: Model, features: Floats | SparseRows) -> Answers:
    """Predict one output in row blocks with a thread-safe model; see `Model.predict`."""
    n_rows = features.shape[0]
    if n_rows < 2 * BLOCK_ROWS:
        return model.predict(features)
    return _pool().predict(model, features)


class RowBlockPool:
    """Threads that predict blocks in parallel to the calling thread."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._work: SimpleQueue[tuple[Future[Any], Block]] = SimpleQueue()
        for _ in range(n_threads):
            threading.Thread(target=self._serve, daemon=True, name="row-blocks").start()

    def predict(self, model: Model, features: Floats | SparseRows) -> NDArray[Any]:
        """Predict a block of rows in each thread, the caller's included.

        Args:
            model: Thread-safe.
            features: Float32 `[n_rows, n_features]`, with at least `BLOCK_ROWS` rows.
        """
        n_rows = features.shape[0]
        n_blocks = min(self._n_threads + 1, n_rows // BLOCK_ROWS)
        bounds = [n_rows * index // n_blocks for index in range(n_blocks + 1)]
        # The thread that predicts a block removes it from its list. So neither the queue nor a
        # thread refers to the model after the prediction, and the model can be freed.
        blocks: list[Block] = [
            [partial(model.predict, rows(features, start, stop))]
            for start, stop in pairwise(bounds)
        ]
        futures: list[Future[Any]] = [Future() for _ in blocks[1:]]
        for future, block in zip(futures, blocks[1:], strict=True):
            self._work.put((future, block))
        try:
            predicted = [blocks[0].pop()()]
            for future, block in zip(futures, blocks[1:], strict=True):
                try:
                    # The other threads may be busy with other requests: a block that none of them
                    # has begun is predicted here.
                    predicted.append(block.pop()() if future.cancel() else future.result())
                finally:
                    # An exception of the future refers to this frame by its traceback, and this
                    # frame to the future: without `del` the cycle keeps the features in memory.
                    del future
        finally:
            while futures:
                if futures.pop().cancel():
                    blocks[len(futures) + 1].clear()
        return np.concatenate(predicted)

    def _serve(self) -> None:
        while True:
            _settle(*self._work.get())


def _settle(future: "Future[Any]", block: Block) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        predicted = block.pop()()
    except BaseException as error:  # noqa: BLE001 - raised by `Future.result` in the caller
        future.set_exception(error)
        del future  # breaks the cycle of future, exception, traceback and frame
    else:
        future.set_result(predicted)


@cache
def _pool() -> RowBlockPool:
    """The pool of this process, started at first use: a worker forks no more by then."""
    return RowBlockPool(cgroup.cpu_count() - 1)
