import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from container.errors import ModelNotFoundError, OverloadedError
from serve.http.access_log import Observation
from serve.multi_model.model_leases import ModelTurn, ModelTurns
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import Residency
from serve.multi_model.residency.versions import Versions
from tests.unit.serve.multi_model.conftest import Answering


def scope_of(path: str, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"path": path, "raw_path": path.encode(), "headers": headers or []}


@pytest.fixture
def turns(registry: Registry, versions: Versions) -> ModelTurns:
    """Models called `slow-…` take one invocation at a time, with two waiting."""
    metrics = ModelMetrics(1, emf_namespace=None)

    def load(model: Model) -> Answering:
        return Answering(model.generation, is_thread_safe=not model.name.startswith("slow"))

    residency = Residency(
        registry, versions, load, max_bytes=1000, pinned=(), metrics=metrics, retire=lambda: None
    )
    return ModelTurns(residency, metrics, max_waiting=2)


def begun(turns: ModelTurns, path: str) -> ModelTurn:
    turn = turns.turn(scope_of(path))
    assert turn is not None
    return turn


def test_other_paths_have_no_turn(turns: ModelTurns) -> None:
    """They belong to Flask."""
    for path in ("/models", "/models/m", "/invocations", "/models/a/b/invoke"):
        assert turns.turn(scope_of(path)) is None


def test_first_turn_waits_for_the_load_and_the_next_does_not(
    turns: ModelTurns, add: Callable[..., Model]
) -> None:
    """C-086: the log says which model it was, what the client called it, and how long it took."""
    add("m")

    async def work() -> list[Observation]:
        observations = []
        for _ in range(2):
            seen = Observation("id", "text/csv")
            header = (b"x-amzn-sagemaker-target-model", b"dir/m.tar.gz")
            turn = turns.turn(scope_of("/models/m/invoke", [header]))
            assert turn is not None
            servable = turn.begin_now(seen) or await turn.begin(seen)
            assert isinstance(servable, Answering)
            turn.end()
            observations.append(seen)
        return observations

    first, second = asyncio.run(work())

    assert first.facts is not None
    assert second.facts == {"model_name": "m", "target_model": "dir/m.tar.gz"}
    assert float(str(first.facts["load_wait_ms"])) > 0
    assert [item.name for item in first.measurements] == ["ModelCacheHit", "ModelLoadingWaitTime"]
    assert [(item.name, item.value) for item in second.measurements] == [("ModelCacheHit", 1)]


def test_turn_that_fails_to_begin_ends_well(turns: ModelTurns) -> None:
    """C-086: 404, and there is nothing to give back."""

    async def work() -> None:
        turn = begun(turns, "/models/none/invoke")
        seen = Observation("id", "")
        assert turn.begin_now(seen) is None
        with pytest.raises(ModelNotFoundError):
            await turn.begin(seen)
        turn.end()
        assert seen.facts == {"model_name": "none"}

    asyncio.run(work())


def test_model_that_is_not_thread_safe_takes_one_at_a_time(
    turns: ModelTurns, add: Callable[..., Model]
) -> None:
    """C-089: others wait their turn without holding a thread, and too many are refused."""
    add("slow")
    add("quick")

    async def work() -> None:
        order: list[int] = []

        async def invoke(index: int) -> None:
            turn = begun(turns, "/models/slow/invoke")
            seen = Observation("id", "")
            try:
                assert turn.begin_now(seen) is None
                await turn.begin(seen)
                order.append(index)
                await asyncio.sleep(0.01)
                order.append(index)
            finally:
                turn.end()

        running = [asyncio.create_task(invoke(index)) for index in range(3)]
        await asyncio.sleep(0.005)
        with pytest.raises(OverloadedError, match="BYOA_MAX_WAITING"):
            await invoke(3)
        other = begun(turns, "/models/quick/invoke")
        await other.begin(Observation("id", ""))  # is not held up
        other.end()
        await asyncio.gather(*running)
        assert order == [0, 0, 1, 1, 2, 2]

    asyncio.run(work())


def test_who_leaves_while_waiting_passes_the_turn_on(
    turns: ModelTurns, add: Callable[..., Model]
) -> None:
    """C-089: a client that hangs up does not stop those behind it."""
    add("slow")

    async def work() -> None:
        first = begun(turns, "/models/slow/invoke")
        await first.begin(Observation("id", ""))

        async def wait() -> None:
            turn = begun(turns, "/models/slow/invoke")
            try:
                await turn.begin(Observation("id", ""))
            finally:
                turn.end()

        leaving, staying = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0.005)
        leaving.cancel()
        first.end()
        async with asyncio.timeout(5):
            await staying

    asyncio.run(work())
