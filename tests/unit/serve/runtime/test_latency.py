"""The latency heuristic: inline on the event loop, or offloaded to a thread."""

import time
from collections.abc import Callable

import pytest

from serve.invocation import Invocation, ModelServable
from serve.runtime.latency import LatencyHeuristic
from tests.unit.serve.conftest import SumModel


def test_new_model_is_given_a_try() -> None:
    """The first invocation of each size is offloaded, and large bodies always are."""
    heuristic = LatencyHeuristic()
    for size in (1, 2**13, 2**16, 2**17):
        assert not heuristic.is_quick(size)
        heuristic.record(size, 0.0005)

    for size in (1, 2**13, 2**16):
        assert heuristic.is_quick(size)
    assert not heuristic.is_quick(2**17)
    assert not heuristic.is_quick(2**15)


def test_slow_invocation_sends_those_of_its_size_away_for_a_while() -> None:
    """A slow invocation affects its size only; quick ones undo it."""
    heuristic = LatencyHeuristic()
    for size in (200, 1000, 3000):
        heuristic.record(size, 0.0005)
    heuristic.record(1000, 0.05)
    assert not heuristic.is_quick(1000)
    assert not heuristic.is_quick(600)
    assert heuristic.is_quick(200)
    assert heuristic.is_quick(3000)

    for _ in range(200):
        heuristic.record(1000, 0.0005)

    assert heuristic.is_quick(1000)


def test_one_slow_invocation_in_a_hundred_keeps_all_away() -> None:
    """The maximum counts, not the mean: a ping waits for the slowest invocation."""
    heuristic = LatencyHeuristic()
    for _ in range(10):
        heuristic.record(1000, 0.05)
        for _ in range(99):
            heuristic.record(1000, 0.0005)
            assert not heuristic.is_quick(1000)


@pytest.mark.parametrize("is_refused", [False, True], ids=["answered", "refused"])
def test_servable_notes_what_it_took(
    servable: ModelServable, model: SumModel, is_refused: bool
) -> None:
    """CPU time counts, also of an invocation that fails."""

    def burn(features: object) -> object:
        until = time.thread_time() + 0.005
        while time.thread_time() < until:
            pass
        if is_refused:
            raise ValueError
        return predict(features)  # type: ignore[arg-type]

    predict: Callable[[object], object] = model.predict  # type: ignore[assignment]
    model.predict = burn  # type: ignore[method-assign, assignment]
    invocation = Invocation(b"1,2\n", "text/csv")
    servable.latency.record(len(invocation.body), 0.0)
    assert servable.may_run_inline(invocation)

    if is_refused:
        with pytest.raises(ValueError):  # noqa: PT011
            servable.invoke(invocation)
    else:
        servable.invoke(invocation)

    assert not servable.may_run_inline(invocation)
