"""Free memory goes back to the system."""

import subprocess
import sys
from pathlib import Path

# Small blocks with a kept one at the end: nothing of it comes back by itself.
SCRIPT = """
from container import cgroup, heap
blocks = [bytearray(60_000) for _ in range(2000)]
kept = bytearray(60_000)
del blocks
before = cgroup.resident_bytes()
heap.give_back()
print(before - cgroup.resident_bytes())
"""


def test_give_back_returns_what_was_freed() -> None:
    """In a process of its own: what others freed does not count."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(finished.stdout) > 60_000_000
