"""Loading and unloading models for all workers; called in threads of a worker."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from container.errors import ContainerError, ModelNotFoundError, OutOfMemoryError
from container.settings import Settings
from serve.multi_model import model_files
from serve.multi_model.admission.admission_check import Admission, Admitted
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import Residency
from serve.multi_model.residency.peers import Peers

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Every invocation has its answer by then. A stream, or code that goes on beyond its limit, has the
# model until it ends, or its process does.
_DRAIN_SLACK_SECONDS = 10.0


class Catalogue:
    """One object in each worker; the registry behind it is shared."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        admission: Admission,
        residency: Residency,
        peers: Peers,
        *,
        max_bytes: int,
    ) -> None:
        """Args:
        max_bytes: What the models of one worker may take together.
        """
        self._settings = settings
        self._registry = registry
        self._admission = admission
        self._residency = residency
        self._peers = peers
        self._max_bytes = max_bytes
        # Where nothing is evicted, every worker must be able to hold every model.
        self._max_total_bytes = max_bytes if settings.on_full == "refuse" else None
        self._unfit: dict[Path, str] = {}  # directories and their signatures
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Called on the worker's event loop, before it takes a request."""
        self._loop = asyncio.get_running_loop()
        self._listening = await self._peers.listen(self._residency.forget)

    def load(self, name: str, url: str) -> Model:
        """Load a model; when this returns, every worker could invoke it.

        Nobody sees the model before: it is added when nothing can fail any more. An unload that
        another client asked for may follow at once, and changes nothing about this load.

        Raises:
            InvalidRequestError, ModelNotFoundError: the url is not one of a model directory.
            ModelAlreadyLoadedError: there is a model of that name.
            ModelLoadError: the model cannot be used.
            OutOfMemoryError: it does not fit.
        """
        started = time.perf_counter()
        directory = model_files.directory_of(url, self._settings.model_roots)
        generation = self._registry.reserve(name, self._peers.own_name, self._peers.is_alive)
        try:
            model = Model(generation, name, url, *self._admit(directory))
            self._check_room(model)
            self._add(model)
        except BaseException:
            self._registry.give_up(generation)
            raise
        facts = {"model_name": name, "url": url, "n_bytes": model.n_bytes}
        logger.info("model_registered", extra=facts | {"duration_seconds": _since(started)})
        return model

    def unload(self, name: str) -> None:
        """Delete a model; when this returns, no worker has it in memory.

        Unless work that takes longer than an invocation may, which is not waited for, still has it.

        Raises:
            ModelNotFoundError
        """
        started = time.perf_counter()
        model = self._registry.remove(name)
        if model is None:
            raise _not_found(name)
        self._forget(model)
        facts = {"model_name": name, "duration_seconds": _since(started)}
        logger.info("model_unregistered", extra=facts)

    def describe(self, name: str) -> Model:
        """The model of that name; raises `ModelNotFoundError`."""
        model = self._registry.find(name)
        if model is None:
            raise _not_found(name)
        return model

    def page(self, after: str, limit: int) -> tuple[list[Model], bool]:
        """The next `limit` models in the order of their names, and whether there are more."""
        models = self._registry.page(after, limit + 1)
        return models[:limit], len(models) > limit

    def _check_room(self, model: Model) -> None:
        if model.n_bytes > self._max_bytes:
            raise OutOfMemoryError(
                f"the model takes {model.n_bytes / 2**20:.1f} MiB; all models of a worker may "
                f"take {self._max_bytes / 2**20:.1f} (BYOA_MODEL_MEMORY_MB)"
            )
        n_models, n_bytes = self._registry.totals()
        if self._max_total_bytes is not None and n_bytes + model.n_bytes > self._max_total_bytes:
            raise OutOfMemoryError(
                f"the model takes {model.n_bytes / 2**20:.1f} MiB; {n_bytes / 2**20:.1f} of "
                f"{self._max_bytes / 2**20:.1f} MiB (BYOA_MODEL_MEMORY_MB) are taken by "
                f"{n_models} models, and BYOA_ON_FULL=refuse evicts none"
            )

    def _add(self, model: Model) -> None:
        """Load a model into this worker, then let every worker see it."""
        resident = self._on_loop(self._residency.load_first(model))
        is_added = False
        try:
            is_added = self._registry.add(model, max_bytes=self._max_total_bytes)
        finally:
            self._on_loop(self._residency.end_load(resident, keep=is_added))
        if not is_added:  # others were added since the room was checked
            self._check_room(model)
            raise OutOfMemoryError("the models that were loaded meanwhile took the room; try again")

    def _admit(self, directory: Path) -> Admitted:
        """Have a model tried, once more where idle models could make room for the trial.

        Where that did not help, it is not done again for the same files: whoever asks for a model
        that is too large again and again would empty the worker each time.
        """
        try:
            return self._admission.admit(directory)
        except OutOfMemoryError:
            signature = model_files.signature(directory)
            if self._settings.on_full != "evict" or self._unfit.get(directory) == signature:
                raise
            if not self._on_loop(self._residency.make_room_to_try()):
                raise
        try:
            return self._admission.admit(directory)
        except OutOfMemoryError:
            self._unfit[directory] = signature
            raise

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what belongs on the event loop, and wait for it in this thread."""
        if self._loop is None:
            work.close()
            raise ContainerError("the worker has not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _forget(self, model: Model) -> None:
        limit = self._settings.timeout_seconds + _DRAIN_SLACK_SECONDS
        if not self._peers.tell_all(model.name, model.generation, timeout_seconds=limit):
            logger.warning("model_still_in_use", extra={"model_name": model.name})


def _not_found(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"Model not found: {name}")


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
