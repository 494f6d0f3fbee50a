import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from container.errors import ModelNotFoundError, OverloadedError
from serve.http.access_log import Observation
from serve.multi_model.model_leases import ModelLease, ModelLeases
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.versions import Versions
from tests.unit.serve.multi_model.conftest import Answering
from tests.waiting import PATIENCE_SECONDS, until


def scope_of(path: str, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"path": path, "raw_path": path.encode(), "headers": headers or []}


@pytest.fixture
def leases(registry: Registry, versions: Versions) -> ModelLeases:
    """Models called `slow-…` take one invocation at a time, with two waiting."""
    metrics = ModelMetrics(1, emf_namespace=None)

    def load(model: Model) -> Answering:
        return Answering(model.generation, is_thread_safe=not model.name.startswith("slow"))

    cache = ModelCache(
        registry, versions, load, max_bytes=1000, pinned=(), metrics=metrics, retire=lambda: None
    )
    return ModelLeases(cache, metrics, max_waiting=2)


def begun(leases: ModelLeases, path: str) -> ModelLease:
    lease = leases.lease(scope_of(path))
    assert lease is not None
    return lease


def test_other_paths_have_no_lease(leases: ModelLeases) -> None:
    """Leaves all other paths to Flask."""
    for path in ("/models", "/models/m", "/invocations", "/models/a/b/invoke"):
        assert leases.lease(scope_of(path)) is None


def test_first_turn_waits_for_the_load_and_the_next_does_not(
    leases: ModelLeases, add: Callable[..., Model]
) -> None:
    """Logs the model, the client's name of it, and the wait (C-086)."""
    add("m")

    async def work() -> list[Observation]:
        observations = []
        for _ in range(2):
            seen = Observation("id", "text/csv")
            header = (b"x-amzn-sagemaker-target-model", b"dir/m.tar.gz")
            lease = leases.lease(scope_of("/models/m/invoke", [header]))
            assert lease is not None
            servable = lease.acquire_nowait(seen) or await lease.acquire(seen)
            assert isinstance(servable, Answering)
            lease.release()
            observations.append(seen)
        return observations

    first, second = asyncio.run(work())

    assert first.facts is not None
    assert second.facts == {"model_name": "m", "target_model": "dir/m.tar.gz"}
    assert float(str(first.facts["load_wait_ms"])) > 0
    assert [item.name for item in first.measurements] == ["ModelCacheHit", "ModelLoadingWaitTime"]
    assert [(item.name, item.value) for item in second.measurements] == [("ModelCacheHit", 1)]


def test_lease_that_fails_is_released_well(leases: ModelLeases) -> None:
    """Answers 404, and has nothing to release (C-086)."""

    async def work() -> None:
        lease = begun(leases, "/models/none/invoke")
        seen = Observation("id", "")
        assert lease.acquire_nowait(seen) is None
        with pytest.raises(ModelNotFoundError):
            await lease.acquire(seen)
        lease.release()
        assert seen.facts == {"model_name": "none"}

    asyncio.run(work())


def test_model_that_is_not_thread_safe_takes_one_at_a_time(
    leases: ModelLeases, add: Callable[..., Model]
) -> None:
    """Waits for the lock without a thread; refuses too many (C-089)."""
    add("slow")
    add("quick")

    async def work() -> None:
        order: list[int] = []
        may_end = asyncio.Event()

        async def invoke(index: int) -> None:
            lease = begun(leases, "/models/slow/invoke")
            seen = Observation("id", "")
            try:
                assert lease.acquire_nowait(seen) is None
                await lease.acquire(seen)
                order.append(index)
                await may_end.wait()
                order.append(index)
            finally:
                lease.release()

        running = [asyncio.create_task(invoke(index)) for index in range(3)]
        await until(lambda: order == [0])
        with pytest.raises(OverloadedError, match="BYOA_MAX_WAITING"):
            await invoke(3)
        other = begun(leases, "/models/quick/invoke")
        await other.acquire(Observation("id", ""))  # is not held up
        other.release()
        may_end.set()
        await asyncio.gather(*running)
        assert order == [0, 0, 1, 1, 2, 2]

    asyncio.run(work())


def test_client_that_leaves_while_waiting_passes_the_lock_on(
    leases: ModelLeases, add: Callable[..., Model]
) -> None:
    """Passes the lock on when a waiting client hangs up (C-089)."""
    add("slow")

    async def work() -> None:
        first = begun(leases, "/models/slow/invoke")
        await first.acquire(Observation("id", ""))

        async def wait() -> None:
            lease = begun(leases, "/models/slow/invoke")
            try:
                await lease.acquire(Observation("id", ""))
            finally:
                lease.release()

        leaving, staying = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0.005)
        leaving.cancel()
        first.release()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await staying

    asyncio.run(work())
