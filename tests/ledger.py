"""Check that answers to concurrent calls on one model name fit some order of the calls.

Each call took effect at one moment between its start and its end. The search tries every order that
these times allow (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993).
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Version = str
"""Mark of one load of a name, such as the model's answer."""


@dataclass
class Call:
    """One management call or invocation and its answer.

    `version` is what a load was asked to load, or what an invocation was answered by.
    """

    kind: str  # load, unload, describe or invoke
    version: Version | None = None
    status: int = 0
    start: float = 0.0
    end: float = 0.0

    def after(self, loaded: Version | None) -> tuple[bool, Version | None]:
        """Return whether the answer is right if `loaded` is the model, and the model after it."""
        is_loaded = loaded is not None
        if self.kind == "load":
            if self.status == 200:
                return not is_loaded, self.version
            return self.status != 409 or is_loaded, loaded
        if self.status == 404:
            return not is_loaded, loaded
        if self.kind == "unload":
            return is_loaded, None
        return is_loaded and self.version in (None, loaded), loaded


@dataclass
class Ledger:
    """The calls on one name, in any number of threads."""

    calls: list[Call] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def record(self, kind: str, version: Version | None = None) -> Iterator[Call]:
        """Time a call, whose status the block sets."""
        call = Call(kind, version, start=time.monotonic())
        yield call
        call.end = time.monotonic()
        with self._lock:
            self.calls.append(call)

    def explain(self, loaded: Version | None = None) -> list[Call] | None:
        """An order of the calls that gives these answers, `loaded` before them; None without one.

        A load that was refused with 409 is also right while another load was under way.
        """
        return _ordered([call for call in self.calls if not self._met_a_load(call)], loaded)

    def _met_a_load(self, call: Call) -> bool:
        return (call.kind, call.status) == ("load", 409) and any(
            other.kind == "load"
            and other.status != 409
            and other.start < call.end
            and call.start < other.end
            for other in self.calls
        )


def _ordered(calls: Sequence[Call], loaded: Version | None) -> list[Call] | None:
    """Depth-first; a set of calls that led nowhere from a state is not tried again."""
    dead_ends: set[tuple[frozenset[int], Version | None]] = set()

    def search(left: frozenset[int], loaded: Version | None) -> list[Call] | None:
        if not left:
            return []
        if (left, loaded) in dead_ends:
            return None
        first_end = min(calls[index].end for index in left)
        for index in left:
            if calls[index].start > first_end:
                continue
            is_right, then = calls[index].after(loaded)
            rest = search(left - {index}, then) if is_right else None
            if rest is not None:
                return [calls[index], *rest]
        dead_ends.add((left, loaded))
        return None

    return search(frozenset(range(len(calls))), loaded)
