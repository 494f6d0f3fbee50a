"""Predictions for many records, on all CPUs that this process may use.

A model predicts with one thread, so that many small requests share the CPUs well. A large body of
batch transform often comes alone: its rows are cut into blocks, and threads of this process predict
them side by side (XGBoost lets go of the interpreter lock). The threads stay, since XGBoost keeps
buffers for every thread that has ever called it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from itertools import pairwise
from queue import SimpleQueue

import numpy as np

from container import cgroup
from container.algorithms.contract import Model
from container.codecs.records import Floats, SparseRows, rows

# A block takes a millisecond or more; handing it over takes 0.1.
BLOCK_ROWS = 1024

Block = list[Callable[[], Floats]]  # of one, until somebody predicts it


def predict(model: Model, features: Floats | SparseRows) -> Floats:
    """Predict as `model` does, which must be thread-safe; see `Model.predict`."""
    n_rows = features.shape[0]
    if n_rows < 2 * BLOCK_ROWS:
        return model.predict(features)
    return _helpers().predict(model, features)


class Helpers:
    """Threads that predict blocks beside the thread that asks for them."""

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._work: SimpleQueue[tuple[Future[Floats], Block]] = SimpleQueue()
        for _ in range(n_threads):
            threading.Thread(target=self._serve, daemon=True, name="row-blocks").start()

    def predict(self, model: Model, features: Floats | SparseRows) -> Floats:
        """Cut the rows into a block for each thread, the caller's included."""
        n_rows = features.shape[0]
        n_blocks = min(self._n_threads + 1, n_rows // BLOCK_ROWS)
        bounds = [n_rows * index // n_blocks for index in range(n_blocks + 1)]
        # In lists, for whoever does one to take out: once all is predicted, nothing in the line or
        # in a thread holds the model, which may be freed then.
        blocks: list[Block] = [
            [partial(model.predict, rows(features, start, stop))]
            for start, stop in pairwise(bounds)
        ]
        futures: list[Future[Floats]] = [Future() for _ in blocks[1:]]
        for future, block in zip(futures, blocks[1:], strict=True):
            self._work.put((future, block))
        try:
            predicted = [blocks[0].pop()()]
            for future, block in zip(futures, blocks[1:], strict=True):
                try:
                    # What no helper has begun, since they are at somebody else's, is done here.
                    predicted.append(block.pop()() if future.cancel() else future.result())
                finally:
                    del future  # its exception, whose traceback holds this frame, would stay
        finally:
            while futures:
                if futures.pop().cancel():
                    blocks[len(futures) + 1].clear()
        return np.concatenate(predicted)

    def _serve(self) -> None:
        while True:
            _settle(*self._work.get())


def _settle(future: "Future[Floats]", block: Block) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        predicted = block.pop()()
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
        del future  # as above
    else:
        future.set_result(predicted)


@cache
def _helpers() -> Helpers:
    """Those of this process, started when they are first needed: by then it forks no more."""
    return Helpers(cgroup.cpu_count() - 1)
