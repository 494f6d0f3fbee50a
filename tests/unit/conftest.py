"""A unit test starts no process, does not sleep, and takes less than a second of CPU time."""

import asyncio
import contextlib
import multiprocessing.process
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Imported here, so that no test pays for the first import.
import pyarrow.parquet  # noqa: F401
import pytest
import scipy.sparse  # noqa: F401
import sklearn.datasets  # noqa: F401
import xgboost  # noqa: F401

# A second on an idle machine. Beside other programs the same test takes several times the CPU time,
# since they share caches and cores; the limit bears that.
CPU_SECONDS = 5.0
# Longer sleeps on an event loop fail a test; `waiting.until` lets the loop run in shorter ones.
_LOOP_SECONDS = 0.1
_STARTS = (
    (os, "fork"),
    (os, "posix_spawn"),
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
)
_TESTS = str(Path(__file__).parents[1])
_sleep = time.sleep
_sleep_on_loop = asyncio.sleep


def _refusal(action: str) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail(f"a unit test must not {action}; move it to tests/integration")

    return refuse


def _product_sleep(seconds: float) -> None:
    """Sleep for the product, which looks for a FIFO every 0.1 s; fail where a test sleeps."""
    if sys._getframe(1).f_code.co_filename.startswith(_TESTS):
        _refusal("sleep")()
    _sleep(seconds)


async def _short_sleep(delay: float, result: Any = None) -> Any:
    """Sleep as `asyncio.sleep`; fail at the end of a long sleep that nobody has cancelled."""
    found = await _sleep_on_loop(delay, result)
    if delay > _LOOP_SECONDS:
        _refusal(f"sleep {delay:g} s; wait for a condition")()
    return found


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Let processes and sleeps fail."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _STARTS:
            patch.setattr(owner, name, _refusal("start a process"))
        patch.setattr(time, "sleep", _product_sleep)
        patch.setattr(asyncio, "sleep", _short_sleep)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Guard the fixtures of a test, but not their end.

    The end of the last test is also that of the servers that black-box tests have shared.
    """
    with _guarded():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test that takes too much CPU time; elapsed time depends on other programs.

    Under coverage, and with the examples of a nightly run, everything takes longer.
    """
    started = time.process_time()
    with _guarded():
        result = yield
    seconds = time.process_time() - started
    if seconds > CPU_SECONDS and not {"COVERAGE_PROCESS_START", "HYPOTHESIS_PROFILE"} & set(
        os.environ
    ):
        pytest.fail(
            f"the test takes {seconds:.1f} s of CPU time, and a unit test may take "
            f"{CPU_SECONDS:g} s; use less data, or move it to tests/integration"
        )
    return result
