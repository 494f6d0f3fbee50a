"""`POST /models/NAME/invoke`: an invocation's turn with one of many models."""

from time import perf_counter

from container.errors import OverloadedError
from serve.http.access_log import Measurement, Observation
from serve.invocation import Servable
from serve.leases import Scope
from serve.multi_model import model_names
from serve.multi_model.model_metrics import ModelMetrics
from serve.multi_model.residency.cached_model import Resident
from serve.multi_model.residency.model_cache import Residency

_TARGET_MODEL = b"x-amzn-sagemaker-target-model"  # what the client called it; for the log only


class ModelLeases:
    """See `serve.leases.Models`."""

    is_thread_safe = True  # a model that is not takes one invocation at a time

    def __init__(self, residency: Residency, metrics: ModelMetrics, *, max_waiting: int) -> None:
        """Args:
        max_waiting: Invocations that may wait for a model that takes one at a time.
        """
        self._residency = residency
        self._metrics = metrics
        self._max_waiting = max_waiting

    def lease(self, scope: Scope) -> "ModelLease | None":
        """See `serve.leases.Models`."""
        name = model_names.in_invoke_path(scope["raw_path"])
        if name is None:
            return None
        return ModelLease(name, scope, self._residency, self._metrics, self._max_waiting)


class ModelLease:
    """See `serve.leases.Lease`."""

    __slots__ = (
        "_has_lock",
        "_max_waiting",
        "_metrics",
        "_n_holders",
        "_name",
        "_residency",
        "_resident",
        "_scope",
    )

    def __init__(
        self,
        name: str,
        scope: Scope,
        residency: Residency,
        metrics: ModelMetrics,
        max_waiting: int,
    ) -> None:
        self._name = name
        self._scope = scope
        self._residency = residency
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._resident: Resident | None = None
        self._has_lock = False
        self._n_holders = 1

    def acquire_nowait(self, seen: Observation) -> Servable | None:
        """See `serve.leases.Lease`."""
        facts = seen.facts = {"model_name": self._name}
        for name, value in self._scope["headers"]:
            if name == _TARGET_MODEL:
                facts["target_model"] = value.decode("latin-1")
        resident = self._resident = self._residency.lease_now(self._name)
        if resident is None:
            return None
        self._note(seen, None)
        return resident.servable if resident.lock is None else None

    async def acquire(self, seen: Observation) -> Servable:
        """See `serve.leases.Lease`."""
        resident = self._resident
        if resident is None:
            started = perf_counter()
            resident, was_here = await self._residency.lease(self._name)
            self._resident = resident
            self._note(seen, None if was_here else perf_counter() - started)
        if resident.lock is not None:
            if resident.n_leases > self._max_waiting + 1:
                raise OverloadedError(
                    "invocations of this model in hand", self._max_waiting + 1, "BYOA_MAX_WAITING"
                )
            await resident.lock.acquire()
            self._has_lock = True
        if resident.servable is None:
            raise RuntimeError("a leased model was freed")
        return resident.servable

    def retain(self) -> None:
        """See `serve.leases.Lease`."""
        self._n_holders += 1

    def release(self) -> None:
        """See `serve.leases.Lease`."""
        self._n_holders -= 1
        resident = self._resident
        if resident is None or self._n_holders:
            return
        if self._has_lock and resident.lock is not None:
            resident.lock.release()
        self._residency.release(resident)

    def _note(self, seen: Observation, waited_seconds: float | None) -> None:
        """Args:
        waited_seconds: None where the model was resident.
        """
        self._metrics.looked_up(waited_seconds)
        hit = Measurement("ModelCacheHit", "Count", int(waited_seconds is None))
        seen.measurements = (hit,)
        if waited_seconds is not None:
            waited = round(waited_seconds * 1_000_000)
            seen.measurements += (Measurement("ModelLoadingWaitTime", "Microseconds", waited),)
            if seen.facts is not None:
                seen.facts["load_wait_ms"] = round(waited_seconds * 1000, 3)
