"""Free memory goes back to the system."""

import subprocess
import sys
from pathlib import Path

# Small blocks with a kept one at the end: nothing of it comes back by itself.
SCRIPT = """
from container import allocator, cgroup
blocks = [bytearray(60_000) for _ in range(2000)]
kept = bytearray(60_000)
del blocks
before = cgroup.resident_bytes()
allocator.release_free_memory()
print(before - cgroup.resident_bytes())
"""


def test_freed_memory_is_returned_to_the_system() -> None:
    """In a process of its own: what others freed does not count."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(finished.stdout) > 60_000_000


# Once a block of a size was freed, glibc takes the next one from the heap, where what comes after
# it keeps it from going back.
LARGE_BLOCKS = """
import ctypes
from container import allocator, cgroup
if %r:
    allocator.return_large_blocks()
before = cgroup.resident_bytes()
kept = []
for _ in range(3):
    block = ctypes.create_string_buffer(30 << 20)
    kept.append(bytearray(60_000))
    del block
print(cgroup.resident_bytes() - before)
"""


def test_large_blocks_go_back_when_they_are_freed() -> None:
    """Also where glibc by itself would keep them."""
    kept, returned = (
        int(
            subprocess.run(
                [sys.executable, "-c", LARGE_BLOCKS % is_set],
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for is_set in (False, True)
    )

    assert returned < 4_000_000
    assert kept > 20_000_000
