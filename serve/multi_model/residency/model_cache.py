"""Model cache of a worker: least recently used (LRU), with leases and single-flight loading.

    absent -> loading -> loaded -> dropped (evicted, deleted or replaced) -> freed

A model is leased while invocations use it: then it is not evicted, and when it is deleted its
leases end first. A model is loaded once for all invocations that wait for it (single-flight).

All state belongs to the event loop and needs no locks; only `load` and the release of a model's
memory run in threads.
"""

import asyncio
import fnmatch
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from container import cgroup
from container.errors import ModelLoadError, ModelNotFoundError, OutOfMemoryError
from serve.invocation import Servable
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import OWN_CODE, Model, Registry
from serve.multi_model.residency.cached_model import CachedModel, all_freed
from serve.multi_model.residency.memory_budget import Trimmer
from serve.multi_model.residency.versions import NEVER, Versions, is_settled
from serve.runtime.thread_pool import ThreadPool
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

_N_LOADING_THREADS = 4
_PROCESS_SLACK_SECONDS = 30.0
_MAX_WAITING = 1_000_000  # no bound of its own: the invocations that wait are bounded


class ModelCache:
    """The models in the memory of one worker."""

    def __init__(
        self,
        registry: Registry,
        versions: Versions,
        load: Callable[[Model], Servable],
        *,
        max_bytes: int,
        pinned: Sequence[str],
        metrics: ModelMetrics,
        retire: Callable[[], None],
    ) -> None:
        """Args:
        load: Called in a thread; raises `ContainerError`, or any exception of a user's code.
        max_bytes: Memory that the models may take together.
        pinned: Patterns of names that are never evicted.
        metrics: Counts loads, unloads and the models in memory.
        retire: Called when a load does not end in time: its thread ends with the process only.
        """
        self._registry = registry
        self._cells = versions.cells
        self._load_servable = load
        self._max_bytes = max_bytes
        self._pinned = tuple(pinned)
        self._metrics = metrics
        self._retire = retire
        self._models: OrderedDict[str, CachedModel] = OrderedDict()  # least recently used first
        self._dropped: set[CachedModel] = set()  # and not freed yet
        self._n_bytes = 0  # also of those that are being loaded
        self._n_loaded = self._n_loaded_bytes = 0
        self._loading = ThreadPool(n_threads=_N_LOADING_THREADS, n_waiting=_MAX_WAITING)
        # Models with code hang as long as they like to: they hold up loads of each other only.
        self._loading_code = ThreadPool(n_threads=_N_LOADING_THREADS, n_waiting=_MAX_WAITING)
        self._freeing = ThreadPool(n_threads=_N_LOADING_THREADS, n_waiting=_MAX_WAITING)
        self._trimmer = Trimmer()
        self._tasks: set[asyncio.Task[None]] = set()

    def lease_now(self, name: str) -> CachedModel | None:
        """Lease a model that is loaded and current; None where only `lease` can."""
        cached = self._models.get(name)
        if cached is None or cached.version != self._cells[cached.index] or cached.servable is None:
            return None
        self._models.move_to_end(name)
        cached.n_leases += 1
        return cached

    async def lease(self, name: str) -> tuple[CachedModel, bool]:
        """Lease a model, loading it first where needed; ends with `release`.

        Returns:
            The model, and True if it was loaded already.
        Raises:
            ModelNotFoundError: the registry has none of that name.
            OutOfMemoryError: there is no room, and all models are in use or pinned.
            ContainerError: the model cannot be loaded (any more).
        """
        cached = self._current(name)
        return cached, await self._lease(cached)

    async def load_first(self, model: Model, loaded: Servable | None = None) -> CachedModel:
        """Load and lease a model that is not in the registry yet; ends with `end_load`.

        Until it is in the registry no invocation can lease it.

        Args:
            model: The model.
            loaded: The model if it is loaded already; the cache closes it if this returns.
        Raises:
            OutOfMemoryError, ContainerError: see `lease`.
        """
        older = self._models.get(model.name)
        if older is not None:
            self._drop(older)  # unloaded a moment ago
        cached = self._start_loading(model, Versions.index(model.name), loaded)
        await self._lease(cached)
        return cached

    async def end_load(self, cached: CachedModel, *, keep: bool) -> None:
        """Release the lease of `load_first`.

        Args:
            keep: True if the model was added to the registry; otherwise it is dropped.
        """
        if not keep:
            self._drop(cached)
        self.release(cached)

    def release(self, cached: CachedModel) -> None:
        """End a lease."""
        cached.n_leases -= 1
        self._free_if_done(cached)

    async def forget(self, name: str, generation: int) -> None:
        """Drop a model up to `generation`; returns when its memory is free. Idempotent."""
        cached = self._models.get(name)
        if cached is not None and cached.model.generation <= generation:
            self._drop(cached)
        await all_freed(
            each
            for each in self._dropped
            if each.model.name == name and each.model.generation <= generation
        )

    async def make_room_to_validate(self) -> bool:
        """Evict until the largest model allowed would fit into the free memory of the container.

        A validation run has only that memory.

        Returns:
            False where no model could be evicted; otherwise their memory is free.
        """
        victims, _ = self._victims(self._max_bytes - cgroup.memory_available_bytes())
        for victim in victims:
            self._drop(victim)
        await all_freed(victims)
        return bool(victims)

    async def _lease(self, cached: CachedModel) -> bool:
        """Lease a model and wait until it is loaded; returns True if it was loaded already."""
        cached.n_leases += 1
        if cached.loading is None:
            return True
        try:
            await asyncio.shield(cached.loading)  # goes on for others when this invocation ends
        except BaseException:
            self.release(cached)
            raise
        return False

    def _current(self, name: str) -> CachedModel:
        """Return the model that the registry has under that name, loaded or being loaded."""
        index = Versions.index(name)
        version = self._cells[index]  # read before the registry: a later change is noticed then
        model = self._registry.find(name)
        if model is None:
            raise ModelNotFoundError(f"Model not found: {name}")
        cached = self._models.get(name)
        if cached is not None and cached.model.generation != model.generation:
            self._drop(cached)
            cached = None
        if cached is None:
            cached = self._start_loading(model, index)
        cached.version = version if is_settled(version) else NEVER
        self._models.move_to_end(name)
        return cached

    def _start_loading(
        self, model: Model, index: int, loaded: Servable | None = None
    ) -> CachedModel:
        self._make_room(model)
        cached = CachedModel(model, index, is_pinned=_is_pinned(model.name, self._pinned))
        self._models[model.name] = cached
        self._n_bytes += model.n_bytes
        cached.loading = self._start(self._load(cached, loaded))
        return cached

    async def _load(self, cached: CachedModel, loaded: Servable | None) -> None:
        started = time.perf_counter()
        try:
            servable = loaded or await self._loaded(cached.model)
        except Exception:
            cached.loading = None
            self._drop(cached)
            raise
        cached.loading = None
        cached.servable = servable
        if not servable.is_thread_safe:
            cached.lock = asyncio.Lock()
        self._metrics.loaded(cached.model.name, time.perf_counter() - started)
        self._count(cached, 1)
        self._free_if_done(cached)

    async def _loaded(self, model: Model) -> Servable:
        # That of a model process is over before, so that no worker retires for it.
        has_code = model.algorithm == OWN_CODE
        slack = _PROCESS_SLACK_SECONDS if has_code else 0.0
        threads = self._loading_code if has_code else self._loading
        try:
            async with asyncio.timeout(MODEL_TIMEOUT_SECONDS + slack) as limit:
                return await threads.run(lambda: self._load_servable(model))
        except TimeoutError as error:
            if not limit.expired():  # a TimeoutError of the model's own
                raise
            self._retire()
            raise ModelLoadError(
                f"loading the model took longer than {MODEL_TIMEOUT_SECONDS:g} s"
            ) from error

    def _make_room(self, model: Model) -> None:
        """Evict what was used least recently until `model` fits."""
        victims, missing = self._victims(self._n_bytes + model.n_bytes - self._max_bytes)
        if missing > 0:
            raise OutOfMemoryError(self._why_full(model))
        for victim in victims:
            self._drop(victim)

    def _victims(self, wanted: int) -> tuple[list[CachedModel], int]:
        """Choose models to evict, least recently used first, until `wanted` bytes are found.

        Returns:
            The models, and the bytes that are still missing (0 or less: none).
        """
        victims = []
        for cached in self._models.values():
            if wanted <= 0:
                break
            if not cached.n_leases and cached.loading is None and not cached.is_pinned:
                victims.append(cached)
                wanted -= cached.model.n_bytes
        return victims, wanted

    def _why_full(self, model: Model) -> str:
        if model.n_bytes > self._max_bytes:
            return (
                f"the model takes {_mebibytes(model.n_bytes)} MiB; all models of a worker may take "
                f"{_mebibytes(self._max_bytes)} MiB (BYOA_MODEL_MEMORY_MB)"
            )
        return (
            f"the model takes {_mebibytes(model.n_bytes)} MiB, and {_mebibytes(self._n_bytes)} of "
            f"{_mebibytes(self._max_bytes)} MiB (BYOA_MODEL_MEMORY_MB) hold "
            f"{len(self._models)} models, of which those that could be evicted are in use or pinned"
        )

    def _drop(self, cached: CachedModel) -> None:
        """Remove a model from the cache; it is freed when its last lease ends."""
        if not cached.is_dropped:
            cached.is_dropped = True
            del self._models[cached.model.name]
            self._dropped.add(cached)
        self._free_if_done(cached)

    def _free_if_done(self, cached: CachedModel) -> None:
        if cached.is_dropped and not cached.n_leases and cached.loading is None:
            # Other models may take the room from here on, a moment before the memory is free.
            self._n_bytes -= cached.model.n_bytes
            if cached.servable is not None:
                self._count(cached, -1)
            self._start(self._free(cached))

    async def _free(self, cached: CachedModel) -> None:
        started = time.perf_counter()
        if cached.servable is not None:
            try:
                await self._freeing.run(lambda: self._discard(cached), has_begun=True)
            except Exception:
                logger.exception("model_not_closed", extra={"model_name": cached.model.name})
            self._metrics.unloaded(cached.model.name, time.perf_counter() - started)
        self._dropped.remove(cached)
        if cached.freed is not None:
            cached.freed.set()

    def _discard(self, cached: CachedModel) -> None:
        """Free a model's memory; in a thread, since a large model takes long."""
        servable, cached.servable = cached.servable, None
        if servable is not None:
            servable.close()
        del servable
        if cached.model.algorithm != OWN_CODE:
            self._trimmer.freed(cached.model.n_bytes)

    def _count(self, cached: CachedModel, change: int) -> None:
        """Update the gauges: `change` is 1 for a model that was loaded, -1 for one being freed."""
        self._n_loaded += change
        self._n_loaded_bytes += change * cached.model.n_bytes
        self._metrics.resident(self._n_loaded, self._n_loaded_bytes)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself has weak references only
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it: waiters have it, if any


def _is_pinned(name: str, patterns: Sequence[str]) -> bool:
    return name in patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)


def _mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f}"
