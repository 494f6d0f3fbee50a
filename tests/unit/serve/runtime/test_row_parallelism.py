"""Row blocks: predictions in parallel are those of the whole."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from container.codecs.records import Floats, SparseRows
from container.errors import PredictionError
from serve.runtime import row_parallelism
from serve.runtime.row_parallelism import BLOCK_ROWS, RowBlockPool
from tests.waiting import PATIENCE_SECONDS

N_ROWS = 5 * BLOCK_ROWS + 7
FEATURES = np.arange(N_ROWS * 3, dtype=np.float32).reshape(N_ROWS, 3)


class SpyModel:
    """Predicts row sums; records the rows and the thread of each call."""

    n_features = 3

    def __init__(self, before: Callable[[int], None] = lambda n_rows: None) -> None:
        self.calls: list[tuple[int, str]] = []
        self._before = before

    def predict(self, features: Floats | SparseRows) -> Floats:
        n_rows = features.shape[0]
        self.calls.append((n_rows, threading.current_thread().name))
        self._before(n_rows)
        if isinstance(features, SparseRows):
            dense = np.zeros(features.shape, dtype=np.float32)
            for row in range(n_rows):
                cells = slice(features.offsets[row], features.offsets[row + 1])
                dense[row, features.columns[cells]] = features.values[cells]
            return dense.sum(axis=1, dtype=np.float32)
        return features.sum(axis=1, dtype=np.float32)


def test_large_predictions_are_shared_among_threads() -> None:
    """Blocks of about the same size, in order; one is predicted by the caller."""
    at_once = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def meet(n_rows: int) -> None:
        at_once.wait()

    model = SpyModel(meet)

    predicted = RowBlockPool(2).predict(model, FEATURES)

    np.testing.assert_array_equal(predicted, FEATURES.sum(axis=1))
    assert sum(n_rows for n_rows, _ in model.calls) == N_ROWS
    assert max(n_rows for n_rows, _ in model.calls) <= N_ROWS / 3 + 1
    assert sorted(name for _, name in model.calls) == ["MainThread", "row-blocks", "row-blocks"]


def test_small_predictions_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small predictions start no thread."""
    monkeypatch.setattr(row_parallelism, "_pool", lambda: pytest.fail("threads were asked for"))
    model = SpyModel()

    row_parallelism.predict(model, FEATURES[: 2 * BLOCK_ROWS - 1])

    assert len(model.calls) == 1


def test_one_cpu_predicts_alone() -> None:
    """With one CPU the caller predicts everything."""
    model = SpyModel()

    predicted = RowBlockPool(0).predict(model, FEATURES)

    np.testing.assert_array_equal(predicted, FEATURES.sum(axis=1))
    assert [name for _, name in model.calls] == ["MainThread"]


def test_sparse_rows_and_several_outputs_are_put_together() -> None:
    """Sparse blocks have their own offsets, and several outputs stay in order."""
    offsets = np.arange(0, 3 * N_ROWS + 1, 3, dtype=np.int64)
    columns = np.tile(np.arange(3, dtype=np.int32), N_ROWS)
    sparse = SparseRows(offsets, columns, FEATURES.ravel(), 3)

    class Both(SpyModel):
        def predict(self, features: Floats | SparseRows) -> Floats:
            total = super().predict(features)
            return np.column_stack([total, -total])

    predicted = RowBlockPool(2).predict(Both(), sparse)

    expected = FEATURES.sum(axis=1)
    np.testing.assert_array_equal(predicted, np.column_stack([expected, -expected]))


def test_error_in_any_block_is_the_predictions() -> None:
    """An error reaches the caller, and the threads go on."""
    helpers = RowBlockPool(2)
    asked_by = threading.current_thread().name
    at_once = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def fail(n_rows: int) -> None:
        at_once.wait()
        if threading.current_thread().name != asked_by:
            raise PredictionError("refused")

    failing = SpyModel(fail)
    for _ in range(2):
        with pytest.raises(PredictionError, match="refused"):
            helpers.predict(failing, FEATURES)

    predicted = helpers.predict(SpyModel(), FEATURES)
    np.testing.assert_array_equal(predicted, FEATURES.sum(axis=1))


def test_blocks_that_no_helper_takes_are_the_callers() -> None:
    """A prediction does not wait for threads that are busy with another one."""
    helpers = RowBlockPool(1)
    may_go_on, is_busy = threading.Event(), threading.Event()

    def wait(n_rows: int) -> None:
        if threading.current_thread().name == "row-blocks":
            is_busy.set()
            assert may_go_on.wait(PATIENCE_SECONDS)
        else:  # not so quick that nothing is left for the helper
            assert is_busy.wait(PATIENCE_SECONDS)

    other = threading.Thread(target=helpers.predict, args=(SpyModel(wait), FEATURES))
    other.start()
    assert is_busy.wait(PATIENCE_SECONDS)
    model = SpyModel()

    predicted = helpers.predict(model, FEATURES)
    may_go_on.set()
    other.join()

    np.testing.assert_array_equal(predicted, FEATURES.sum(axis=1))
    assert {name for _, name in model.calls} == {"MainThread"}


def test_thread_holds_no_model_any_more_once_it_has_predicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No thread refers to the model after the prediction (C-085)."""
    may_go_on = threading.Event()

    class SlowFuture(Future[Floats]):
        def set_result(self, result: Floats) -> None:
            super().set_result(result)
            assert may_go_on.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(row_parallelism, "Future", SlowFuture)
    model = SpyModel()
    reference = weakref.ref(model)

    RowBlockPool(1).predict(model, FEATURES)
    del model

    is_free = reference() is None
    may_go_on.set()
    assert is_free
