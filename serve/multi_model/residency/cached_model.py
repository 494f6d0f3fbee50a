"""A model in the cache of a worker, from the start of its loading until its memory is free."""

import asyncio
from collections.abc import Iterable

from serve.invocation import Servable
from serve.multi_model.model_registry import Model
from serve.multi_model.residency.versions import NEVER


class CachedModel:
    """A model that is being loaded, is loaded, or is being freed."""

    __slots__ = (
        *("model", "servable", "index", "version", "n_leases", "is_pinned", "is_dropped"),
        *("loading", "lock", "freed"),
    )

    def __init__(self, model: Model, index: int, *, is_pinned: bool) -> None:
        self.model = model
        self.servable: Servable | None = None
        self.index = index  # of its name's version
        self.version = NEVER  # when the registry last had this generation
        self.n_leases = 0
        self.is_pinned = is_pinned
        self.is_dropped = False
        self.loading: asyncio.Task[None] | None = None
        self.lock: asyncio.Lock | None = None  # of a model that is not thread-safe
        self.freed: asyncio.Event | None = None  # made by the first that waits for it

    def will_be_freed(self) -> asyncio.Event:
        """Return the event that is set once the model's memory is free."""
        self.freed = self.freed or asyncio.Event()
        return self.freed


async def all_freed(models: Iterable[CachedModel]) -> None:
    """Wait until models that are being freed are free."""
    # All events are made before the first is awaited: a model that is freed meanwhile sets its own.
    for event in [cached.will_be_freed() for cached in models]:
        await event.wait()
