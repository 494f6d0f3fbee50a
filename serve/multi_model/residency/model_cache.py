"""The models that one worker has in memory: those it used last, as many as fit.

    not here -> loading -> resident -> dropped (evicted, deleted or replaced) -> freed

A model is leased while invocations use it: then it is never evicted, and when it is deleted it
drains first. However many invocations wait for a model, it is loaded once.

Everything here happens on the event loop, but for loading and freeing themselves, without locks.
"""

import asyncio
import contextlib
import fnmatch
import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from container import cgroup
from container.errors import ModelLoadError, ModelNotFoundError, OutOfMemoryError
from serve.invocation import Servable
from serve.multi_model.admission.model_validation import OWN_CODE
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.cached_model import Resident, all_freed
from serve.multi_model.residency.memory_budget import Returns
from serve.multi_model.residency.versions import NEVER, Versions, is_settled
from serve.runtime.thread_pool import Capacity
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

_N_LOADING_THREADS = 4
_MAX_WAITING = 1_000_000  # invocations wait, and are bounded themselves


class Residency:
    """One worker's models."""

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
        load: Called in a thread; raises `ContainerError`, or whatever a user's code raises.
        max_bytes: What the models may take together.
        pinned: Patterns of names that are never evicted.
        metrics: Told of loads, unloads and what is resident.
        retire: Called when a load does not end, which only the end of its process ends.
        """
        self._registry = registry
        self._cells = versions.cells
        self._load_servable = load
        self._max_bytes = max_bytes
        self._pinned = tuple(pinned)
        self._metrics = metrics
        self._retire = retire
        self._residents: OrderedDict[str, Resident] = OrderedDict()  # the least recent first
        self._leaving: set[Resident] = set()  # dropped, and not freed yet
        self._n_bytes = 0  # also of those that are being loaded
        self._n_loaded = self._n_loaded_bytes = 0
        self._loading = Capacity(n_threads=_N_LOADING_THREADS, n_waiting=_MAX_WAITING)
        self._freeing = Capacity(n_threads=1, n_waiting=_MAX_WAITING)
        self._code_lock = asyncio.Lock()
        self._returns = Returns()
        self._tasks: set[asyncio.Task[None]] = set()

    def lease_now(self, name: str) -> Resident | None:
        """Lease a model that is here and current; None where it takes `lease`."""
        resident = self._residents.get(name)
        if (
            resident is None
            or resident.version != self._cells[resident.place]
            or resident.servable is None
        ):
            return None
        self._residents.move_to_end(name)
        resident.n_leases += 1
        return resident

    async def lease(self, name: str) -> tuple[Resident, bool]:
        """Lease a model, which is loaded first where it is not here. Give it back by `release`.

        Returns:
            The model, and whether it was here.
        Raises:
            ModelNotFoundError: the registry does not have it.
            OutOfMemoryError: there is no room, and everything here is in use or pinned.
            ContainerError: it cannot be loaded (any more).
        """
        resident = self._current(name)
        return resident, await self._lease(resident)

    async def load_first(self, model: Model) -> Resident:
        """Load and lease a model that is not in the registry yet; ends with `end_load`.

        Until it is in the registry nobody else can lease it.

        Raises:
            OutOfMemoryError, ContainerError: see `lease`.
        """
        older = self._residents.get(model.name)
        if older is not None:
            self._drop(older)  # unloaded a moment ago
        resident = self._start_loading(model, Versions.place(model.name))
        await self._lease(resident)
        return resident

    async def end_load(self, resident: Resident, *, keep: bool) -> None:
        """Give back the lease of `load_first`.

        Args:
            keep: Whether the registry has the model now; otherwise it is dropped.
        """
        if not keep:
            self._drop(resident)
        self.release(resident)

    def release(self, resident: Resident) -> None:
        """Give a lease back."""
        resident.n_leases -= 1
        self._free_if_done(resident)

    async def forget(self, name: str, generation: int) -> None:
        """Drop a model up to that generation; returns when its memory has been given back."""
        resident = self._residents.get(name)
        if resident is not None and resident.model.generation <= generation:
            self._drop(resident)
        await all_freed(
            each
            for each in self._leaving
            if each.model.name == name and each.model.generation <= generation
        )

    async def make_room_to_try(self) -> bool:
        """Evict until as much is free as any model here may take; a trial has only what is free.

        Returns:
            Whether anything could be evicted; its memory has been given back then.
        """
        victims, _ = self._victims(self._max_bytes - cgroup.memory_available_bytes())
        for victim in victims:
            self._drop(victim)
        await all_freed(victims)
        return bool(victims)

    async def _lease(self, resident: Resident) -> bool:
        """Lease a model and wait until it is loaded; returns whether it was."""
        resident.n_leases += 1
        if resident.loading is None:
            return True
        try:
            await asyncio.shield(resident.loading)  # goes on, whoever leaves
        except BaseException:
            self.release(resident)
            raise
        return False

    def _current(self, name: str) -> Resident:
        """What the registry says there is under that name, loaded or about to be."""
        place = Versions.place(name)
        version = self._cells[place]  # before the registry is asked: what changes after it is seen
        model = self._registry.find(name)
        if model is None:
            raise ModelNotFoundError(f"Model not found: {name}")
        resident = self._residents.get(name)
        if resident is not None and resident.model.generation != model.generation:
            self._drop(resident)
            resident = None
        if resident is None:
            resident = self._start_loading(model, place)
        resident.version = version if is_settled(version) else NEVER
        self._residents.move_to_end(name)
        return resident

    def _start_loading(self, model: Model, place: int) -> Resident:
        self._make_room(model)
        resident = Resident(model, place, is_pinned=_is_pinned(model.name, self._pinned))
        self._residents[model.name] = resident
        self._n_bytes += model.n_bytes
        resident.loading = self._start(self._load(resident))
        return resident

    async def _load(self, resident: Resident) -> None:
        started = time.perf_counter()
        try:
            servable = await self._loaded(resident.model)
        except Exception:
            resident.loading = None
            self._drop(resident)
            raise
        resident.loading = None
        resident.servable = servable
        if not servable.is_thread_safe:
            resident.lock = asyncio.Lock()
        self._metrics.loaded(resident.model.name, time.perf_counter() - started)
        self._count(resident, 1)
        self._free_if_done(resident)

    async def _loaded(self, model: Model) -> Servable:
        # Those with code one at a time (`serve/user_code/isolation.py`): where they wait for each
        # other, they take no thread and none of their own time.
        async with self._code_lock if model.algorithm == OWN_CODE else contextlib.nullcontext():
            return await self._loaded_in_time(model)

    async def _loaded_in_time(self, model: Model) -> Servable:
        try:
            async with asyncio.timeout(MODEL_TIMEOUT_SECONDS) as limit:
                return await self._loading.run(lambda: self._load_servable(model))
        except TimeoutError as error:
            if not limit.expired():  # the model's own
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

    def _victims(self, wanted: int) -> tuple[list[Resident], int]:
        """The least recent ones that take so many bytes, and how many bytes that is too few."""
        victims = []
        for resident in self._residents.values():
            if wanted <= 0:
                break
            if not resident.n_leases and resident.loading is None and not resident.is_pinned:
                victims.append(resident)
                wanted -= resident.model.n_bytes
        return victims, wanted

    def _why_full(self, model: Model) -> str:
        if model.n_bytes > self._max_bytes:
            return (
                f"the model takes {_mebibytes(model.n_bytes)} MiB; all models of a worker may take "
                f"{_mebibytes(self._max_bytes)} (BYOA_MODEL_MEMORY_MB)"
            )
        return (
            f"the model takes {_mebibytes(model.n_bytes)} MiB, and {_mebibytes(self._n_bytes)} of "
            f"{_mebibytes(self._max_bytes)} MiB (BYOA_MODEL_MEMORY_MB) hold "
            f"{len(self._residents)} models, those that could make room in use or pinned"
        )

    def _drop(self, resident: Resident) -> None:
        """Take a model out of everybody's reach; it goes when nobody uses it any more."""
        if not resident.is_dropped:
            resident.is_dropped = True
            del self._residents[resident.model.name]
            self._leaving.add(resident)
        self._free_if_done(resident)

    def _free_if_done(self, resident: Resident) -> None:
        if resident.is_dropped and not resident.n_leases and resident.loading is None:
            # Others may have the room from here on, a moment before it is there.
            self._n_bytes -= resident.model.n_bytes
            if resident.servable is not None:
                self._count(resident, -1)
            self._start(self._free(resident))

    async def _free(self, resident: Resident) -> None:
        started = time.perf_counter()
        if resident.servable is not None:
            await self._freeing.run(lambda: self._discard(resident), has_begun=True)
            self._metrics.unloaded(resident.model.name, time.perf_counter() - started)
        self._leaving.remove(resident)
        if resident.freed is not None:
            resident.freed.set()

    def _discard(self, resident: Resident) -> None:
        """In a thread: freeing a large model takes its time."""
        resident.servable = None
        if resident.model.algorithm == OWN_CODE:
            gc.collect()  # modules and functions refer to each other
        self._returns.freed(resident.model.n_bytes)

    def _count(self, resident: Resident, change: int) -> None:
        """Tell the metrics of a model that is in memory now, or that nobody uses any more."""
        self._n_loaded += change
        self._n_loaded_bytes += change * resident.model.n_bytes
        self._metrics.resident(self._n_loaded, self._n_loaded_bytes)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who wait for it, if any


def _is_pinned(name: str, patterns: Sequence[str]) -> bool:
    return name in patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)


def _mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f}"
