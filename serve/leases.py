"""Leases of models: an invocation leases the only model of a server, or one of many by path."""

from typing import Protocol

from serve.http.access_log import Observation
from serve.http.asgi import Scope
from serve.invocation import Servable


class Lease(Protocol):
    """The right of one invocation to use a model, which stays in memory until it is released."""

    def acquire_nowait(self, seen: Observation) -> Servable | None:
        """Return the model; None where only `acquire` can, since it takes time."""

    async def acquire(self, seen: Observation) -> Servable:
        """Wait for the model; raises `ContainerError`."""

    def retain(self) -> None:
        """Add a holder, which calls `release`, too: a thread may outlive its request."""

    def release(self) -> None:
        """Remove a holder: the invocation, also where it never acquired the model, or a thread."""


class Models(Protocol):
    """The models of a worker."""

    @property
    def is_thread_safe(self) -> bool:
        """True if several threads may invoke models at once."""

    def lease(self, scope: Scope) -> Lease | None:
        """Return a lease of the model that the request's path names; None where it names none."""


class OneModel:
    """The only model of a server, which is always there: `Models` and `Lease` in one."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.is_thread_safe = servable.is_thread_safe

    def lease(self, scope: Scope) -> "OneModel | None":
        return self if scope["path"] == "/invocations" else None

    def acquire_nowait(self, seen: Observation) -> Servable:
        return self._servable

    async def acquire(self, seen: Observation) -> Servable:
        return self._servable

    def retain(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""
