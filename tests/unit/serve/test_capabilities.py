"""Serving does with a model only what its algorithm declares."""

import threading
from typing import Any

import numpy as np
import pytest

from container import allocator
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities
from container.codecs.records import Floats, SparseRows
from serve.invocation import Invocation, ModelServable
from serve.runtime import row_parallelism, validation_run
from serve.runtime.row_parallelism import BLOCK_ROWS, RowBlockPool
from tests.unit.serve.conftest import SumAlgorithm, SumModel

N_ROWS = 5 * BLOCK_ROWS


class UndeclaredAlgorithm(Algorithm):
    """Declares nothing beyond what has no default."""

    name = "undeclared"

    def fit(self, job: object) -> Any:
        raise NotImplementedError

    def load(self, directory: object, manifest: object, options: object) -> Any:
        raise NotImplementedError


class SpyModel(SumModel):
    """Notes the number of rows and the thread of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def predict(self, features: Floats | SparseRows) -> Floats:
        self.calls.append((features.shape[0], threading.get_ident()))
        return super().predict(np.zeros(features.shape, dtype=np.float32))


@pytest.fixture(autouse=True)
def two_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads for row blocks, however many CPUs this machine has."""
    helpers = RowBlockPool(2)
    monkeypatch.setattr(row_parallelism, "_pool", lambda: helpers)


def _servable(algorithm: object) -> tuple[ModelServable, SpyModel]:
    model = SpyModel()
    servable = ModelServable(algorithm, model, "text/csv")  # type: ignore[arg-type]
    servable.latency.record(1, 0.0)
    return servable, model


def test_algorithm_that_declares_nothing_has_no_row_blocks_and_no_loop() -> None:
    """A framework with threads of its own would otherwise get XGBoost's policy."""
    servable, model = _servable(UndeclaredAlgorithm())

    servable.invoke(Invocation(b"1,2\n" * N_ROWS, "text/csv"))

    assert model.calls == [(N_ROWS, threading.get_ident())]
    assert not servable.may_run_inline(Invocation(b"1", "text/csv"))
    assert not servable.is_thread_safe
    assert not UndeclaredAlgorithm.capabilities.is_fork_safe


def test_algorithm_that_declares_row_blocks_is_predicted_in_blocks() -> None:
    """Each of the three threads has a part of the rows."""
    servable, model = _servable(SumAlgorithm())

    servable.invoke(Invocation(b"1,2\n" * N_ROWS, "text/csv"))

    assert len(model.calls) == 3
    assert sum(n_rows for n_rows, _ in model.calls) == N_ROWS


@pytest.mark.parametrize("in_blocks", [False, True])
def test_validation_run_predicts_as_the_server_does(
    monkeypatch: pytest.MonkeyPatch, in_blocks: bool
) -> None:
    """A model is tested with blocks of rows if its algorithm declares them, and only then.

    The sizes show the blocks. Which thread predicts one is left to chance: the caller takes what no
    other thread has begun.
    """
    monkeypatch.setattr(allocator, "fill_with_pattern", lambda: None)  # for all of this process
    model = SpyModel()

    one = np.ones((1, 2), np.float32)
    validation_run.predict_in_all_ways(model, one, one, in_blocks=in_blocks)

    assert (BLOCK_ROWS in [n_rows for n_rows, _ in model.calls]) == in_blocks


def test_row_blocks_need_thread_safe_models() -> None:
    """Blocks are predicted in several threads at once."""
    with pytest.raises(ValueError, match="is_thread_safe"):
        Capabilities(predicts_row_blocks=True)
