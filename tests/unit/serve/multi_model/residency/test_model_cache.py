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
from serve.multi_model.residency.cached_model import Resident
from serve.multi_model.residency.model_cache import Residency
from serve.multi_model.residency.versions import Versions
from tests.unit.serve.multi_model.conftest import Answering
from tests.waiting import PATIENCE_SECONDS


class Loader:
    """Loads when it is let, and remembers what."""

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
def residency(
    registry: Registry,
    versions: Versions,
    loader: Loader,
    metrics: ModelMetrics,
    retired: threading.Event,
) -> Residency:
    """Room for three models of 10 bytes."""
    return Residency(
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


async def use(residency: Residency, name: str) -> int:
    """Lease, say which generation it is, and give it back."""
    resident, _ = await residency.lease(name)
    residency.release(resident)
    assert isinstance(resident.servable, Answering)
    return resident.servable.generation


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_model_is_loaded_on_its_first_lease_and_then_here(
    residency: Residency, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-079: and leased at once from then on."""
    add("a")

    async def work() -> tuple[Resident | None, bool, Resident | None, bool]:
        before = residency.lease_now("a")
        _, was_here = await residency.lease("a")
        now = residency.lease_now("a")
        _, is_here = await residency.lease("a")
        return before, was_here, now, is_here

    before, was_here, now, is_here = run(work)

    assert (before, was_here, is_here) == (None, False, True)
    assert now is not None
    assert loader.loaded == ["a"]


def test_unknown_model_is_an_error(residency: Residency) -> None:
    """C-086: nothing is loaded on demand that nobody registered."""
    with pytest.raises(ModelNotFoundError, match="Model not found: a"):
        run(lambda: residency.lease("a"))


def test_many_waiting_share_one_load(
    residency: Residency, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-090: and all get the same model."""
    model = add("a")
    loader.gate.clear()

    async def work() -> list[int]:
        waiting = [asyncio.create_task(use(residency, "a")) for _ in range(50)]
        await until(lambda: loader.loaded == ["a"])
        loader.gate.set()
        return await asyncio.gather(*waiting)

    assert run(work) == [model.generation] * 50
    assert loader.loaded == ["a"]


def test_load_goes_on_when_who_asked_for_it_has_gone(
    residency: Residency, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-079: the platform asks again after 60 s; the model is there then, loaded once."""
    add("a")
    loader.gate.clear()

    async def work() -> bool:
        impatient = asyncio.create_task(residency.lease("a"))
        await until(lambda: loader.loaded == ["a"])
        impatient.cancel()
        await asyncio.wait([impatient])
        loader.gate.set()
        _, _ = await residency.lease("a")
        return residency.lease_now("a") is not None

    assert run(work)
    assert loader.loaded == ["a"]


def test_failed_load_is_told_to_all_and_forgotten(
    residency: Residency, loader: Loader, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """C-082: the next one tries again, and the room is free."""
    add("a", n_bytes=30)
    loader.error = ModelLoadError("broken")
    loader.gate.clear()

    async def work() -> list[Any]:
        waiting = [asyncio.create_task(use(residency, "a")) for _ in range(3)]
        await until(lambda: loader.loaded == ["a"])
        loader.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        loader.error = None
        return [*results, await use(residency, "a")]

    *errors, generation = run(work)

    assert [str(error) for error in errors] == ["broken"] * 3
    assert generation > 0
    assert loader.loaded == ["a", "a"]


def test_load_that_does_not_end_ends_its_process(
    residency: Residency,
    loader: Loader,
    retired: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    add: Callable[..., Model],
) -> None:
    """C-082: those that wait are told; nothing else stops a thread."""
    monkeypatch.setattr(residency_module, "MODEL_TIMEOUT_SECONDS", 0.05)
    add("a")
    loader.gate.clear()

    with pytest.raises(ModelLoadError, match="took longer than"):
        run(lambda: use(residency, "a"))

    assert retired.is_set()
    loader.gate.set()


def test_least_recently_used_goes_first(
    residency: Residency, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-081: being leased counts as being used, on either way."""
    for name in ("a", "b", "c", "d", "e"):
        add(name)

    async def work() -> None:
        for name in ("a", "b", "c"):
            await use(residency, name)
        hot = residency.lease_now("a")
        assert hot is not None
        residency.release(hot)
        await use(residency, "d")  # b goes
        await use(residency, "e")  # c goes
        for name in ("a", "d", "e"):
            assert residency.lease_now(name) is not None, name
        for name in ("b", "c"):
            assert residency.lease_now(name) is None, name

    run(work)


@pytest.mark.parametrize("pinned", ["vip-1", "m[1]", "m1"])
def test_leased_and_pinned_models_are_never_evicted(
    residency: Residency, add: Callable[..., Model], pinned: str
) -> None:
    """C-081: 507 is true then, and has the numbers. What is pinned is a pattern or a very name."""
    for name in (pinned, "a", "b", "c"):
        add(name)

    async def work() -> None:
        await use(residency, pinned)
        await use(residency, "a")
        leased, _ = await residency.lease("b")
        await use(residency, "c")  # a goes, though the pinned one is older
        held, _ = await residency.lease("c")
        with pytest.raises(OutOfMemoryError, match=r"0\.0 of 0\.0 MiB .* hold 3 models"):
            await use(residency, "a")
        residency.release(leased)
        await use(residency, "a")
        assert residency.lease_now(pinned) is not None
        residency.release(held)

    run(work)


@pytest.mark.parametrize(("n_free_bytes", "evicted"), [(30, ""), (29, "a"), (15, "ab"), (0, "ab")])
def test_idle_models_make_room_to_try_another(
    residency: Residency,
    add: Callable[..., Model],
    monkeypatch: pytest.MonkeyPatch,
    n_free_bytes: int,
    evicted: str,
) -> None:
    """C-081: the least recent first, until as much is free as any model may take."""
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: n_free_bytes)
    for name in ("vip-1", "leased", "a", "b"):
        add(name, n_bytes=7)

    async def work() -> None:
        await use(residency, "vip-1")
        leased, _ = await residency.lease("leased")
        idle = []
        for name in ("a", "b"):
            idle.append((await residency.lease(name))[0])
            residency.release(idle[-1])

        assert await residency.make_room_to_try() == bool(evicted)

        freed = [resident.model.name for resident in idle if resident.servable is None]
        assert "".join(freed) == evicted
        for name in ("vip-1", "leased", *set("ab") - set(evicted)):
            assert residency.lease_now(name) is not None, name
        residency.release(leased)

    run(work)


def test_model_larger_than_everything_is_refused_and_evicts_nothing(
    residency: Residency, add: Callable[..., Model]
) -> None:
    """C-081: the models that are here stay."""
    add("a")
    add("huge", n_bytes=31)

    async def work() -> None:
        await use(residency, "a")
        with pytest.raises(OutOfMemoryError, match="all models of a worker may take"):
            await residency.lease("huge")
        assert residency.lease_now("a") is not None

    run(work)


def test_forgotten_model_drains_first(
    residency: Residency, registry: Registry, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """C-085: whoever has it finishes; then it is freed; then the caller is told."""
    model = add("a")

    async def work() -> None:
        resident, _ = await residency.lease("a")
        registry.remove("a")
        forgetting = asyncio.create_task(residency.forget("a", model.generation))
        await asyncio.sleep(0.02)
        assert not forgetting.done()
        assert resident.servable is not None
        with pytest.raises(ModelNotFoundError):
            await residency.lease("a")
        residency.release(resident)
        await forgetting
        assert resident.servable is None

    run(work)


@pytest.mark.parametrize("first", [0, 1])
def test_several_generations_of_a_name_drain_in_any_order(
    residency: Residency, registry: Registry, add: Callable[..., Model], first: int
) -> None:
    """C-085: the last unload is told when the last one has gone."""

    async def drain(name: str) -> None:
        leased, forgetting = [], []
        for _ in range(2):
            model = add(name)
            leased.append((await residency.lease(name))[0])
            registry.remove(name)
            forgetting.append(asyncio.create_task(residency.forget(name, model.generation)))
            await asyncio.sleep(0.02)
        residency.release(leased[first])
        await until(lambda: leased[first].servable is None)
        await asyncio.sleep(0.02)
        assert not forgetting[1].done()
        residency.release(leased[1 - first])
        await asyncio.gather(*forgetting)

    async def work() -> None:
        for name in "abcdefghij":  # a set has them in any order
            await drain(name)

    run(work)


def test_model_that_is_forgotten_while_it_is_loaded_does_not_stay(
    residency: Residency, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-085: those that waited for it get it, nobody after them."""
    model = add("a")
    loader.gate.clear()

    async def work() -> None:
        waiting = asyncio.create_task(use(residency, "a"))
        await until(lambda: loader.loaded == ["a"])
        registry.remove("a")
        forgetting = asyncio.create_task(residency.forget("a", model.generation))
        await asyncio.sleep(0.02)
        assert not forgetting.done()
        loader.gate.set()
        assert await waiting == model.generation
        await forgetting
        assert residency.lease_now("a") is None

    run(work)


def test_replaced_model_is_noticed_without_being_told(
    residency: Residency, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-088: from the registry's change on, nobody gets the old one."""
    add("a")

    async def work() -> None:
        await use(residency, "a")
        registry.remove("a")
        new = add("a")
        assert residency.lease_now("a") is None
        assert await use(residency, "a") == new.generation

    run(work)
    assert loader.loaded == ["a", "a"]


def test_late_message_does_not_drop_the_successor(
    residency: Residency, registry: Registry, add: Callable[..., Model]
) -> None:
    """C-088: it is for generations up to the deleted one."""
    old = add("a")
    registry.remove("a")
    add("a")

    async def work() -> None:
        await use(residency, "a")
        await residency.forget("a", old.generation)
        assert residency.lease_now("a") is not None

    run(work)


def test_unsettled_version_is_never_trusted_but_the_model_goes_on(
    residency: Residency, versions: Versions, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-089: after a writer has died every invocation asks the registry, and is answered."""
    add("a")
    change = versions.change("a")
    change.__enter__()

    async def work() -> None:
        for _ in range(3):
            await use(residency, "a")
            assert residency.lease_now("a") is None

    run(work)
    assert loader.loaded == ["a"]


def test_name_in_the_same_place_is_only_looked_up_again(
    residency: Residency, versions: Versions, loader: Loader, add: Callable[..., Model]
) -> None:
    """A change of another name that shares the place costs a look and no load."""
    add("a")

    async def work() -> None:
        await use(residency, "a")
        versions.cells[versions.place("a")] += 2
        assert residency.lease_now("a") is None
        await use(residency, "a")
        assert residency.lease_now("a") is not None

    run(work)
    assert loader.loaded == ["a"]


def test_room_of_what_is_being_freed_is_free(
    residency: Residency, add: Callable[..., Model]
) -> None:
    """C-081: one after the other may evict without waiting: no false 507."""
    for index in range(40):
        add(f"m{index}")

    async def work() -> None:
        await asyncio.gather(*(use(residency, f"m{index}") for index in range(3)))
        for index in range(40):
            await use(residency, f"m{index}")

    run(work)


def test_models_with_code_hold_up_no_others(
    residency: Residency, registry: Registry, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-089: they are loaded one at a time, however many wait, and take one thread."""
    add("a")
    names = [f"code-{index}" for index in range(6)]
    for name in names:
        generation = registry.reserve(name, "test", lambda owner: True)
        registry.add(Model(generation, name, f"/models/{name}", "d", "s", "code", 1))

    async def work() -> None:
        loader.gate.clear()
        waiting = [asyncio.create_task(use(residency, name)) for name in names]
        await until(lambda: loader.loaded == names[:1])
        other = asyncio.create_task(use(residency, "a"))
        await until(lambda: loader.loaded == ["code-0", "a"])
        loader.gate.set()
        await asyncio.gather(other, *waiting)

    run(work)
    assert loader.loaded == ["code-0", "a", *names[1:]]


def test_freeing_does_not_wait_for_loads(
    residency: Residency, loader: Loader, add: Callable[..., Model]
) -> None:
    """C-085: however many are slow to load."""
    for name in ("a", *(names := [f"slow-{index}" for index in range(8)])):
        add(name, n_bytes=1)

    async def work() -> None:
        await use(residency, "a")
        loader.gate.clear()
        waiting = [asyncio.create_task(use(residency, name)) for name in names]
        await until(lambda: len(loader.loaded) > 4)
        await residency.forget("a", 10**9)
        assert not any(task.done() for task in waiting)
        loader.gate.set()
        await asyncio.gather(*waiting)

    run(work)


def test_metrics_follow(
    residency: Residency, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Loads, unloads, and what is in memory now."""
    for name in ("a", "b", "c", "d"):
        add(name)

    async def work() -> None:
        for name in ("a", "b", "c", "d"):
            await use(residency, name)
        await residency.forget("d", 10**9)

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
    residency: Residency, loader: Loader, metrics: ModelMetrics, add: Callable[..., Model]
) -> None:
    """Not what is being loaded or fails to; what was dropped, for as long as it is in use."""
    add("a")
    add("b")
    seen: list[tuple[float, float]] = []

    def look() -> None:
        samples = samples_of(metrics)
        seen.append((samples["byoa_resident_models"], samples["byoa_resident_model_bytes"]))

    async def work() -> None:
        resident, _ = await residency.lease("a")
        look()
        loader.gate.clear()
        loader.error = ModelLoadError("broken")
        loading = asyncio.create_task(use(residency, "b"))
        await until(lambda: loader.loaded == ["a", "b"])
        residency.release((await residency.lease("a"))[0])
        forgetting = asyncio.create_task(residency.forget("a", 10**9))
        await asyncio.sleep(0)
        look()
        residency.release(resident)
        look()
        loader.gate.set()
        await asyncio.gather(loading, forgetting, return_exceptions=True)
        look()

    run(work)

    assert seen == [(1, 10), (1, 10), (0, 0), (0, 0)]
