"""CPU time and memory of a server, from /proc."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.harness import process_tree
from benchmarks.harness.process_tree import TICKS_PER_SECOND


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[str]"]:
    """A process whose child uses a third of a second of CPU time, ends and is waited for."""
    burn = "import time\\nwhile time.process_time() < 0.3: pass"
    script = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", "{burn}"])
print("done", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def test_cpu_seconds_keeps_what_an_ended_child_has_used(parent: "subprocess.Popen[str]") -> None:
    """A worker that is replaced in the middle of a measurement does not make it cheaper."""
    assert parent.stdout is not None
    parent.stdout.readline()

    assert 0.28 < process_tree.cpu_seconds(parent.pid) < 2


def test_cpu_seconds_sees_less_than_a_tick(parent: "subprocess.Popen[str]") -> None:
    """Own time is read in nanoseconds, not in ticks of 10 ms."""
    assert parent.stdout is not None
    parent.stdout.readline()

    used = process_tree.cpu_seconds(parent.pid)

    assert used * TICKS_PER_SECOND != int(used * TICKS_PER_SECOND)


def test_cpu_seconds_is_what_the_process_says_of_itself() -> None:
    """The number that the kernel calls a process's clock is that of the asked process."""
    script = """
import time
while time.process_time() < 0.3: pass
print(time.process_time(), flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        own = float(process.stdout.readline())
        used = process_tree.cpu_seconds(process.pid)
        process.kill()

    assert own <= used < own + 0.05
