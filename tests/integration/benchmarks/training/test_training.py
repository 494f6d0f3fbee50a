"""The training benchmark: its data, its measuring of a process, its report."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.harness import process_tree
from benchmarks.training import job_runs
from benchmarks.training.job_runs import RunError
from local_test.host_process import members_of_group
from tests.waiting import PATIENCE_SECONDS


def test_measuring_counts_children_and_the_most_memory(tmp_path: Path) -> None:
    """CPU time of processes that it waited for, and memory that is long gone at the end."""
    script = """
import subprocess, sys, time
print("@begin", flush=True)
work = "import time\\nwhile time.process_time() < 0.5: pass"
subprocess.run([sys.executable, "-c", work])
block = bytearray(range(256)) * 400_000
time.sleep(0.5)
del block
print("@loaded", flush=True)
time.sleep(0.3)
"""

    done = job_runs._measure([sys.executable, "-c", script], os.environ)

    assert 0.5 <= done.job.cpu < done.job.wall
    assert 100_000_000 < done.peak_memory < 300_000_000
    between = done.at("@loaded") - done.at("@begin")
    assert between.wall >= 1.0
    assert 0.4 <= between.cpu < between.wall


def test_measuring_a_failure_is_an_error() -> None:
    """With what the subject said."""
    with pytest.raises(RunError, match="oh no"):
        job_runs._measure([sys.executable, "-c", "raise SystemExit('oh no')"], os.environ)


CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("started", flush=True)
child.wait()
"""


def test_measuring_that_is_interrupted_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the subject nor what it has started, nor the thread that watches the time."""
    groups = []
    threads = set(threading.enumerate())

    def interrupt(process_id: int) -> float:
        groups.append(process_id)
        raise KeyboardInterrupt

    monkeypatch.setattr(process_tree, "cpu_seconds", interrupt)

    with pytest.raises(KeyboardInterrupt):
        job_runs._measure([sys.executable, "-c", CHILD], os.environ)

    (group,) = groups
    assert_all_end(group)
    assert set(threading.enumerate()) <= threads


def test_measuring_that_takes_too_long_ends_with_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child that holds on to the output would otherwise be waited for."""
    monkeypatch.setattr(job_runs, "_TIMEOUT_SECONDS", 1.0)
    began = time.monotonic()

    with pytest.raises(RunError, match=r"status -9: started"):
        job_runs._measure([sys.executable, "-c", CHILD], os.environ)

    assert time.monotonic() - began < 30


def assert_all_end(group: int) -> None:
    """Killed processes need a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(members_of_group(group)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_peak_of_a_process_that_is_gone_is_nothing() -> None:
    """Between the listing and the look."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()

        assert job_runs._resident(child.pid) == 0
