"""Leases of many models: `POST /models/NAME/invoke` leases the model from this worker's cache."""

from time import perf_counter

from container.errors import OverloadedError
from serve.http.access_log import Measurement, Observation
from serve.http.asgi import Scope
from serve.invocation import Servable
from serve.multi_model import model_names
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.residency.cached_model import CachedModel
from serve.multi_model.residency.model_cache import ModelCache

_TARGET_MODEL = b"x-amzn-sagemaker-target-model"  # the client's name of the model, for the log


class ModelLeases:
    """The models of a worker of a multi-model server: `serve.leases.Models`."""

    is_thread_safe = True  # a model that is not thread-safe has a lock

    def __init__(self, cache: ModelCache, metrics: ModelMetrics, *, max_waiting: int) -> None:
        """Args:
        max_waiting: Invocations that may wait for the lock of a model that is not thread-safe.
        """
        self._cache = cache
        self._metrics = metrics
        self._max_waiting = max_waiting

    def lease(self, scope: Scope) -> "ModelLease | None":
        """See `serve.leases.Models`."""
        name = model_names.in_invoke_path(scope["raw_path"])
        if name is None:
            return None
        return ModelLease(name, scope, self._cache, self._metrics, self._max_waiting)


class ModelLease:
    """One invocation's lease of a model: `serve.leases.Lease`."""

    __slots__ = (
        "_cache",
        "_cached",
        "_has_lock",
        "_max_waiting",
        "_metrics",
        "_n_holders",
        "_name",
        "_scope",
    )

    def __init__(
        self,
        name: str,
        scope: Scope,
        cache: ModelCache,
        metrics: ModelMetrics,
        max_waiting: int,
    ) -> None:
        self._name = name
        self._scope = scope
        self._cache = cache
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._cached: CachedModel | None = None
        self._has_lock = False
        self._n_holders = 1

    def acquire_nowait(self, seen: Observation) -> Servable | None:
        """See `serve.leases.Lease`."""
        facts = seen.facts = {"model_name": self._name}
        for name, value in self._scope["headers"]:
            if name == _TARGET_MODEL:
                facts["target_model"] = value.decode("latin-1")
        cached = self._cached = self._cache.lease_now(self._name)
        if cached is None:
            return None
        self._note(seen, None)
        return cached.servable if cached.lock is None else None

    async def acquire(self, seen: Observation) -> Servable:
        """See `serve.leases.Lease`."""
        cached = self._cached
        if cached is None:
            started = perf_counter()
            cached, was_here = await self._cache.lease(self._name)
            self._cached = cached
            self._note(seen, None if was_here else perf_counter() - started)
        if cached.lock is not None:
            if cached.n_leases > self._max_waiting + 1:
                raise OverloadedError(
                    "invocations of this model running or waiting",
                    self._max_waiting + 1,
                    "BYOA_MAX_WAITING",
                )
            await cached.lock.acquire()
            self._has_lock = True
        if cached.servable is None:
            raise RuntimeError("a leased model was freed")
        return cached.servable

    def retain(self) -> None:
        """See `serve.leases.Lease`."""
        self._n_holders += 1

    def release(self) -> None:
        """See `serve.leases.Lease`."""
        self._n_holders -= 1
        cached = self._cached
        if cached is None or self._n_holders:
            return
        if self._has_lock and cached.lock is not None:
            cached.lock.release()
        self._cache.release(cached)

    def _note(self, seen: Observation, waited_seconds: float | None) -> None:
        """Count a look-up of the model.

        Args:
            waited_seconds: How long it was loaded; None where it was cached.
        """
        self._metrics.looked_up(waited_seconds)
        hit = Measurement("ModelCacheHit", "Count", int(waited_seconds is None))
        seen.measurements = (hit,)
        if waited_seconds is not None:
            waited = round(waited_seconds * 1_000_000)
            seen.measurements += (Measurement("ModelLoadingWaitTime", "Microseconds", waited),)
            if seen.facts is not None:
                seen.facts["load_wait_ms"] = round(waited_seconds * 1000, 3)
