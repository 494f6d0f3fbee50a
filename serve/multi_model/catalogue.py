"""Loading and unloading of models for all workers; called in threads of a worker."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from container.errors import ContainerError, ModelNotFoundError, OutOfMemoryError
from container.settings import Settings
from serve.model_process.model_process import ModelProcess
from serve.multi_model import model_files
from serve.multi_model.admission.admission_check import Admission, Admitted
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.model_loader import ModelLoader
from serve.multi_model.residency.peers import Peers

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Beyond the time limit of an invocation. A stream, or code that runs on after its limit, holds its
# lease longer, and is not waited for.
_DRAIN_SLACK_SECONDS = 10.0


class Catalogue:
    """Catalogue of models, one object in each worker, over the registry that all share."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        admission: Admission,
        cache: ModelCache,
        peers: Peers,
        *,
        max_bytes: int,
        loader: ModelLoader,
    ) -> None:
        """Args:
        max_bytes: Memory that the models of one worker may take together.
        """
        self._settings = settings
        self._registry = registry
        self._admission = admission
        self._cache = cache
        self._peers = peers
        self._max_bytes = max_bytes
        self._loader = loader
        # Where nothing is evicted, every worker must be able to hold every model.
        self._max_total_bytes = max_bytes if settings.on_full == "refuse" else None
        # Directories, with the signatures of their files, that were too large in an empty worker.
        self._unfit: dict[Path, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Listen to the other workers; called on the event loop before the first request."""
        self._loop = asyncio.get_running_loop()
        self._listening = await self._peers.listen(self._cache.forget)

    def load(self, name: str, url: str) -> Model:
        """Load a model; when this returns, every worker can invoke it.

        No client sees the model before: it is added to the registry as the last step. An unload
        that another client asked for may follow at once; this load has succeeded all the same.

        Raises:
            InvalidRequestError, ModelNotFoundError: `url` does not name a model directory.
            ModelAlreadyLoadedError: a model of that name is registered or being loaded.
            ModelLoadError: the model cannot be used.
            OutOfMemoryError: it does not fit.
        """
        started = time.perf_counter()
        directory = model_files.directory_of(url, self._settings.model_roots)
        generation = self._registry.reserve(name, self._peers.own_name, self._peers.is_alive)
        try:
            admitted = self._admit(directory, name)
            model = Model(generation, name, url, *admitted[:4])
            self._add(model, admitted.process)
        except BaseException:
            self._registry.cancel(generation)
            raise
        facts = {"model_name": name, "url": url, "n_bytes": model.n_bytes}
        logger.info("model_registered", extra=facts | {"duration_seconds": _since(started)})
        return model

    def unload(self, name: str) -> None:
        """Delete a model; when this returns, no worker has it in memory.

        A stream, or code that runs on after its time limit, keeps the model in memory longer, and
        is not waited for.

        Raises:
            ModelNotFoundError: there is none of that name.
        """
        started = time.perf_counter()
        model = self._registry.remove(name)
        if model is None:
            raise _not_found(name)
        self._forget(model)
        facts = {"model_name": name, "duration_seconds": _since(started)}
        logger.info("model_unregistered", extra=facts)

    def describe(self, name: str) -> Model:
        """Return the model of that name; raises `ModelNotFoundError`."""
        model = self._registry.find(name)
        if model is None:
            raise _not_found(name)
        return model

    def crashes(self, model: Model) -> tuple[int, str]:
        """Return the crashes in a row of the process of a model with code, and the last reason."""
        return self._registry.crashes(model.generation)

    def page(self, after: str, limit: int) -> tuple[list[Model], bool]:
        """Return up to `limit` models that follow `after`, and True if there are more."""
        models = self._registry.page(after, limit + 1)
        return models[:limit], len(models) > limit

    def _check_room(self, model: Model) -> None:
        if model.n_bytes > self._max_bytes:
            raise OutOfMemoryError(
                f"the model takes {model.n_bytes / 2**20:.1f} MiB; all models of a worker may "
                f"take {self._max_bytes / 2**20:.1f} MiB (BYOA_MODEL_MEMORY_MB)"
            )
        n_models, n_bytes = self._registry.totals()
        if self._max_total_bytes is not None and n_bytes + model.n_bytes > self._max_total_bytes:
            raise OutOfMemoryError(
                f"the model takes {model.n_bytes / 2**20:.1f} MiB; {n_bytes / 2**20:.1f} of "
                f"{self._max_bytes / 2**20:.1f} MiB (BYOA_MODEL_MEMORY_MB) are taken by "
                f"{n_models} models, and BYOA_ON_FULL=refuse evicts none"
            )

    def _add(self, model: Model, process: ModelProcess | None) -> None:
        """Load a model into this worker, then add it to the registry for all workers.

        Args:
            process: In which a model with code is loaded already.
        """
        try:
            self._check_room(model)
            loaded = None if process is None else self._loader.with_code(model, process)
            cached = self._on_loop(self._cache.load_first(model, loaded))
        except BaseException:
            if process is not None:
                process.close()
            raise
        is_added = False
        try:
            is_added = self._registry.add(model, max_bytes=self._max_total_bytes)
        finally:
            self._on_loop(self._cache.end_load(cached, keep=is_added))
        if not is_added:  # others were added since the room was checked
            self._check_room(model)
            raise OutOfMemoryError("the models that were loaded meanwhile took the room; try again")

    def _admit(self, directory: Path, name: str) -> Admitted:
        """Validate a model; evict idle models and validate it again where memory was short.

        Where that did not help, it is not repeated for the same files: a client that keeps asking
        for a model that is too large would empty the worker each time.
        """
        try:
            return self._admission.admit(directory, name)
        except OutOfMemoryError:
            signature = model_files.signature(directory)
            if self._settings.on_full != "evict" or self._unfit.get(directory) == signature:
                raise
            if not self._on_loop(self._cache.make_room_to_validate()):
                raise
        try:
            return self._admission.admit(directory, name)
        except OutOfMemoryError:
            self._unfit[directory] = signature
            raise

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the event loop, and wait for it in this thread."""
        if self._loop is None:
            work.close()
            raise ContainerError("the worker has not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _forget(self, model: Model) -> None:
        limit = self._settings.timeout_seconds + _DRAIN_SLACK_SECONDS
        if not self._peers.forget_in_all(model.name, model.generation, timeout_seconds=limit):
            logger.warning("model_still_in_use", extra={"model_name": model.name})


def _not_found(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"Model not found: {name}")


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
