"""One model in a worker, from when it is about to be loaded to when its memory is free again."""

import asyncio
from collections.abc import Iterable

from serve.invocation import Servable
from serve.multi_model.model_registry import Model
from serve.multi_model.residency.versions import NEVER


class Resident:
    """A model in this worker, or on its way in or out."""

    __slots__ = (
        *("model", "servable", "place", "version", "n_leases", "is_pinned", "is_dropped"),
        *("loading", "lock", "freed"),
    )

    def __init__(self, model: Model, place: int, *, is_pinned: bool) -> None:
        self.model = model
        self.servable: Servable | None = None
        self.place = place
        self.version = NEVER  # the registry's, when it last named this generation
        self.n_leases = 0
        self.is_pinned = is_pinned
        self.is_dropped = False
        self.loading: asyncio.Task[None] | None = None
        self.lock: asyncio.Lock | None = None  # of what is not thread-safe
        self.freed: asyncio.Event | None = None  # made by whoever waits for it

    def will_be_freed(self) -> asyncio.Event:
        """Set when that has happened."""
        self.freed = self.freed or asyncio.Event()
        return self.freed


async def all_freed(leaving: Iterable[Resident]) -> None:
    """Wait for models that have been dropped, and of which none has been freed by now."""
    # All events before the first one is waited for: what is freed meanwhile must set its own.
    for event in [resident.will_be_freed() for resident in leaving]:
        await event.wait()
