"""Who is invoked: the only model of a server, or one of many by its name in the path."""

from collections.abc import MutableMapping
from typing import Any, Protocol

from serve.http.access_log import Observation
from serve.invocation import Servable

Scope = MutableMapping[str, Any]


class Turn(Protocol):
    """The use that one invocation makes of a model."""

    def begin_now(self, seen: Observation) -> Servable | None:
        """The model, where there is nothing to wait for."""

    async def begin(self, seen: Observation) -> Servable:
        """Wait for the model; raises `ContainerError`."""

    def hold(self) -> None:
        """Keep the turn for one who will call `end` as well: a thread may outlive its request."""

    def end(self) -> None:
        """Called once, also when the turn never began, and once for each `hold`."""


class Models(Protocol):
    """What a worker can invoke."""

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may be at work at once."""

    def turn(self, scope: Scope) -> Turn | None:
        """A turn with the model that the request's path means; None where it means none."""


class OneModel:
    """See `Models`, and `Turn`: the only model of a server is always there."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.is_thread_safe = servable.is_thread_safe

    def turn(self, scope: Scope) -> "OneModel | None":
        return self if scope["path"] == "/invocations" else None

    def begin_now(self, seen: Observation) -> Servable:
        return self._servable

    async def begin(self, seen: Observation) -> Servable:
        return self._servable

    def hold(self) -> None:
        """Nothing to keep."""

    def end(self) -> None:
        """Nothing to give back."""
