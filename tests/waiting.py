"""Waiting for a condition, within a limit that only a test that hangs meets.

The machine may be many times slower than the author's: no test waits for a time instead.
"""

import asyncio
import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0
_INTERVAL_SECONDS = 0.02


def wait_for(condition: Callable[[], object], timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Return when the condition holds; fail where it does not within the time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_seconds:g} s"
        time.sleep(_INTERVAL_SECONDS)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until the condition holds, as `wait_for`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)
