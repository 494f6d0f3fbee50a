import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from container import cgroup
from container.errors import ModelLoadError, ModelNotFoundError, OutOfMemoryError
from serve.multi_model.model_metrics import ModelMetrics, Totals
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency import model_cache as residency_module
from serve.multi_model.residency.cached_model import CachedModel
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.versions import Versions
from tests.unit.serve.multi_model.conftest import Answering
from tests.waiting import PATIENCE_SECONDS


class Loader:
    """Loads a model when its gate opens, and records it."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, model: Model) -> Answering:
        self.loaded.append(model.name)
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return Answering(model.generation)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def metrics() -> ModelMetrics:
    return ModelMetrics(1, emf_namespace=None)


@pytest.fixture
def retired() -> threading.Event:
    return threading.Event()


@pytest.fixture
def cache(
    registry: Registry,
    versions: Versions,
    loader: Loader,
    metrics: ModelMetrics,
    retired: threading.Event,
) -> ModelCache:
    """A cache with room for three models of 10 bytes."""
    return ModelCache(
        registry,
        versions,
        loader,
        max_bytes=30,
        pinned=["vip-*", "m[1]"],
        metrics=metrics,
        retire=retired.set,
    )


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work()

    return asyncio.run(limited())


async def use(cache: ModelCache, name: str) -> int:
    """Lease a model, return its generation, and release it."""
    cached, _ = await cache.lease(name)
    cache.release(cached)
    assert isinstance(cached.servable, Answering)
    return cached.servable.generation


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_model_is_loaded_on_its_first_lease_and_then_here(
    cache: ModelCache, loader: Loader, add: Callable[..., Model]
) -> None:
    """Leases it without waiting from then on (C-079)."""
    add("a")

    async def work() -> tuple[CachedModel | None, bool, CachedModel | None, bool]:
        before = cache.lease_now("a")
        _, was_here = await cache.lease("a")
        now = cache.lease_now("a")
        _, is_here = await cache.lease("a")
        return before, was_here, now, is_here

    before, was_here, now, is_here = run(work)

    assert (before, was_here, is_here) == (None, False, True)
    assert now is not None
    assert loader.loaded == ["a"]


def test_unknown_model_is_an_error(cache: ModelCache) -> None:
    """Does not load a model that is not registered (C-086)."""
    with pytest.raises(ModelNotFoundError, match="Model not found: a"):
        run(lambda: cache.lease("a"))


def test_many_waiting_share_one_load(
    cache: ModelCache, loader: Loader, add: Callable[..., Model]
) -> None:
    """Loads the model once for all waiting invocations: single-flight (C-090)."""
    model = add("a")
    loader.gate.clear()

    async def work() -> list[int]:
        waiting = [asyncio.create_task(use(cache, "a")) for _ in range(50)]
        await until(lambda: loader.loaded == ["a"])
        loader.gate.set()
        return await asyncio.gather(*waiting)

    assert run(work) == [model.generation] * 50
    assert loader.loaded == ["a"]


def test_load_goes_on_when_who_asked_for_it_has_gone(
    cache: ModelCache, loader: Loader, add: Callable[..., Model]
) -> None:
    """Finishes the load for the client's next attempt (C-079)."""
    add("a")
    loader.gate.clear()

    async def work() -> bool:
        impatient = asyncio.create_task(cache.lease("a"))
        await until(lambda: loader.loaded == ["a"])
        impatient.cancel()
        await asyncio.wait([impatient])
        loader.gate.set()
        _, _ = await cache.lease("a")
        return cache.lease_now("a") is not None

    assert run(work)
    assert loader.loaded == ["a"]


def test_failed_load_is_told_to_all_and_forgotten(
    cache: ModelCache, loader: Loader, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Loads again for the next invocation, with the room free (C-082)."""
    add("a", n_bytes=30)
    loader.error = ModelLoadError("broken")
    loader.gate.clear()

    async def work() -> list[Any]:
        waiting = [asyncio.create_task(use(cache, "a")) for _ in range(3)]
        await until(lambda: loader.loaded == ["a"])
        loader.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        loader.error = None
        return [*results, await use(cache, "a")]

    *errors, generation = run(work)

    assert [str(error) for error in errors] == ["broken"] * 3
    assert generation > 0
    assert loader.loaded == ["a", "a"]


def test_load_that_does_not_end_ends_its_process(
    cache: ModelCache,
    loader: Loader,
    retired: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    add: Callable[..., Model],
) -> None:
    """Fails waiting invocations, and replaces the process (C-082)."""
    monkeypatch.setattr(residency_module, "MODEL_TIMEOUT_SECONDS", 0.05)
    add("a")
    loader.gate.clear()

    with pytest.raises(ModelLoadError, match="took longer than"):
        run(lambda: use(cache, "a"))

    assert retired.is_set()
    loader.gate.set()


def test_least_recently_used_goes_first(
    cache: ModelCache, loader: Loader, add: Callable[..., Model]
) -> None:
    """A lease counts as a use, waited for or not (C-081)."""
    for name in ("a", "b", "c", "d", "e"):
        add(name)

    async def work() -> None:
        for name in ("a", "b", "c"):
            await use(cache, name)
        hot = cache.lease_now("a")
        assert hot is not None
        cache.release(hot)
        await use(cache, "d")  # b goes
        await use(cache, "e")  # c goes
        for name in ("a", "d", "e"):
            assert cache.lease_now(name) is not None, name
        for name in ("b", "c"):
            assert cache.lease_now(name) is None, name

    run(work)


@pytest.mark.parametrize("pinned", ["vip-1", "m[1]", "m1"])
def test_leased_and_pinned_models_are_never_evicted(
    cache: ModelCache, add: Callable[..., Model], pinned: str
) -> None:
    """Refuses with the numbers; patterns and names are pinned (C-081)."""
    for name in (pinned, "a", "b", "c"):
        add(name)

    async def work() -> None:
        await use(cache, pinned)
        await use(cache, "a")
        leased, _ = await cache.lease("b")
        await use(cache, "c")  # a goes, though the pinned one is older
        held, _ = await cache.lease("c")
        with pytest.raises(OutOfMemoryError, match=r"0\.0 of 0\.0 MiB .* hold 3 models"):
            await use(cache, "a")
        cache.release(leased)
        await use(cache, "a")
        assert cache.lease_now(pinned) is not None
        cache.release(held)

    run(work)


@pytest.mark.parametrize(("n_free_bytes", "evicted"), [(30, ""), (29, "a"), (15, "ab"), (0, "ab")])
def test_idle_models_make_room_to_validate_another(
    cache: ModelCache,
    add: Callable[..., Model],
    monkeypatch: pytest.MonkeyPatch,
    n_free_bytes: int,
    evicted: str,
) -> None:
    """Evicts the least recently used until the largest model would fit (C-081)."""
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: n_free_bytes)
    for name in ("vip-1", "leased", "a", "b"):
        add(name, n_bytes=7)

    async def work() -> None:
        await use(cache, "vip-1")
        leased, _ = await cache.lease("leased")
        idle = []
        for name in ("a", "b"):
            idle.append((await cache.lease(name))[0])
            cache.release(idle[-1])

        assert await cache.make_room_to_validate() == bool(evicted)

        freed = [cached.model.name for cached in idle if cached.servable is None]
        assert "".join(freed) == evicted
        for name in ("vip-1", "leased", *set("ab") - set(evicted)):
            assert cache.lease_now(name) is not None, name
        cache.release(leased)

    run(work)


def test_model_larger_than_everything_is_refused_and_evicts_nothing(
    cache: ModelCache, add: Callable[..., Model]
) -> None:
    """Keeps all models (C-081)."""
    add("a")
    add("huge", n_bytes=31)

    async def work() -> None:
        await use(cache, "a")
        with pytest.raises(OutOfMemoryError, match="all models of a worker may take"):
            await cache.lease("huge")
        assert cache.lease_now("a") is not None

    run(work)


def test_forgotten_model_drains_first(
    cache: ModelCache, registry: Registry, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Frees it after its last lease, and returns then (C-085)."""
    model = add("a")

    async def work() -> None:
        cached, _ = await cache.lease("a")
        registry.remove("a")
        forgetting = asyncio.create_task(cache.forget("a", model.generation))
        await asyncio.sleep(0.02)
        assert not forgetting.done()
        assert cached.servable is not None
        with pytest.raises(ModelNotFoundError):
            await cache.lease("a")
        cache.release(cached)
        await forgetting
        assert cached.servable is None

    run(work)


@pytest.mark.parametrize("first", [0, 1])
def test_several_generations_of_a_name_drain_in_any_order(
    cache: ModelCache, registry: Registry, add: Callable[..., Model], first: int
) -> None:
    """Returns from the last unload when the last model is free (C-085)."""

    async def drain(name: str) -> None:
        leased, forgetting = [], []
        for _ in range(2):
            model = add(name)
            leased.append((await cache.lease(name))[0])
            registry.remove(name)
            forgetting.append(asyncio.create_task(cache.forget(name, model.generation)))
            await asyncio.sleep(0.02)
        cache.release(leased[first])
        await until(lambda: leased[first].servable is None)
        await asyncio.sleep(0.02)
        assert not forgetting[1].done()
        cache.release(leased[1 - first])
        await asyncio.gather(*forgetting)

    async def work() -> None:
        for name in "abcdefghij":  # a set has them in any order
            await drain(name)

    run(work)


def test_model_that_is_forgotten_while_it_is_loaded_does_not_stay(
    cache: ModelCache, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """Leases it to waiting invocations, and to none after them (C-085)."""
    model = add("a")
    loader.gate.clear()

    async def work() -> None:
        waiting = asyncio.create_task(use(cache, "a"))
        await until(lambda: loader.loaded == ["a"])
        registry.remove("a")
        forgetting = asyncio.create_task(cache.forget("a", model.generation))
        await asyncio.sleep(0.02)
        assert not forgetting.done()
        loader.gate.set()
        assert await waiting == model.generation
        await forgetting
        assert cache.lease_now("a") is None

    run(work)


def test_replaced_model_is_noticed_without_being_told(
    cache: ModelCache, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """Never leases the old model after the registry's change (C-088)."""
    add("a")

    async def work() -> None:
        await use(cache, "a")
        registry.remove("a")
        new = add("a")
        assert cache.lease_now("a") is None
        assert await use(cache, "a") == new.generation

    run(work)
    assert loader.loaded == ["a", "a"]


def test_late_message_does_not_drop_the_successor(
    cache: ModelCache, registry: Registry, add: Callable[..., Model]
) -> None:
    """Drops generations up to the deleted one only (C-088)."""
    old = add("a")
    registry.remove("a")
    add("a")

    async def work() -> None:
        await use(cache, "a")
        await cache.forget("a", old.generation)
        assert cache.lease_now("a") is not None

    run(work)


def test_unsettled_version_is_never_trusted_but_the_model_goes_on(
    cache: ModelCache, versions: Versions, loader: Loader, add: Callable[..., Model]
) -> None:
    """After a writer was killed every invocation asks the registry (C-089)."""
    add("a")
    change = versions.change("a")
    change.__enter__()

    async def work() -> None:
        for _ in range(3):
            await use(cache, "a")
            assert cache.lease_now("a") is None

    run(work)
    assert loader.loaded == ["a"]


def test_name_in_the_same_place_is_only_looked_up_again(
    cache: ModelCache, versions: Versions, loader: Loader, add: Callable[..., Model]
) -> None:
    """A change of a name with the same index costs a look-up and no load."""
    add("a")

    async def work() -> None:
        await use(cache, "a")
        versions.cells[versions.index("a")] += 2
        assert cache.lease_now("a") is None
        await use(cache, "a")
        assert cache.lease_now("a") is not None

    run(work)
    assert loader.loaded == ["a"]


def test_room_of_what_is_being_freed_is_free(cache: ModelCache, add: Callable[..., Model]) -> None:
    """Counts the room of a model as free while it is freed: no false 507 (C-081)."""
    for index in range(40):
        add(f"m{index}")

    async def work() -> None:
        await asyncio.gather(*(use(cache, f"m{index}") for index in range(3)))
        for index in range(40):
            await use(cache, f"m{index}")

    run(work)


def test_models_with_code_hold_up_no_others(
    cache: ModelCache, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """They have loading threads of their own, however many of them hang (C-089)."""
    add("a")
    names = [f"code-{index}" for index in range(6)]
    for name in names:
        generation = registry.reserve(name, "test", lambda owner: True)
        registry.add(Model(generation, name, f"/models/{name}", "d", "s", "code", 1))

    async def work() -> None:
        loader.gate.clear()
        waiting = [asyncio.create_task(use(cache, name)) for name in names]
        await until(lambda: len(loader.loaded) == 4)
        other = asyncio.create_task(use(cache, "a"))
        await until(lambda: loader.loaded[4:] == ["a"])
        loader.gate.set()
        await asyncio.gather(other, *waiting)

    run(work)
    assert sorted(loader.loaded) == ["a", *names]


def test_freeing_does_not_wait_for_loads(
    cache: ModelCache, loader: Loader, add: Callable[..., Model]
) -> None:
    """Frees models however many are slow to load (C-085)."""
    for name in ("a", *(names := [f"slow-{index}" for index in range(8)])):
        add(name, n_bytes=1)

    async def work() -> None:
        await use(cache, "a")
        loader.gate.clear()
        waiting = [asyncio.create_task(use(cache, name)) for name in names]
        await until(lambda: len(loader.loaded) > 4)
        await cache.forget("a", 10**9)
        assert not any(task.done() for task in waiting)
        loader.gate.set()
        await asyncio.gather(*waiting)

    run(work)


def test_metrics_follow(
    cache: ModelCache, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Counts loads and unloads, and shows the models in memory."""
    for name in ("a", "b", "c", "d"):
        add(name)

    async def work() -> None:
        for name in ("a", "b", "c", "d"):
            await use(cache, name)
        await cache.forget("d", 10**9)

    run(work)
    samples = samples_of(metrics)
    assert samples["byoa_model_loads_total"] == 4
    assert samples["byoa_model_unloads_total"] == 2
    assert samples["byoa_resident_models"] == 2
    assert samples["byoa_resident_model_bytes"] == 20
    assert samples["LoadedModelCount"] == 4


def samples_of(metrics: ModelMetrics) -> dict[str, float]:
    return {
        sample.name: sample.value
        for metric in metrics.collect(Totals(4, 1.0, 2.0))
        for sample in metric.samples
    }


def test_metrics_count_what_is_in_memory(
    cache: ModelCache, loader: Loader, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Counts loaded models, and dropped ones while they are leased."""
    add("a")
    add("b")
    seen: list[tuple[float, float]] = []

    def look() -> None:
        samples = samples_of(metrics)
        seen.append((samples["byoa_resident_models"], samples["byoa_resident_model_bytes"]))

    async def work() -> None:
        cached, _ = await cache.lease("a")
        look()
        loader.gate.clear()
        loader.error = ModelLoadError("broken")
        loading = asyncio.create_task(use(cache, "b"))
        await until(lambda: loader.loaded == ["a", "b"])
        cache.release((await cache.lease("a"))[0])
        forgetting = asyncio.create_task(cache.forget("a", 10**9))
        await asyncio.sleep(0)
        look()
        cache.release(cached)
        look()
        loader.gate.set()
        await asyncio.gather(loading, forgetting, return_exceptions=True)
        look()

    run(work)

    assert seen == [(1, 10), (1, 10), (0, 0), (0, 0)]
