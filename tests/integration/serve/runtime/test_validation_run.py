import ctypes
import os
import sys
import time
from pathlib import Path

import pytest

from container.errors import ModelLoadError
from serve.runtime import validation_run


def test_work_that_succeeds_leaves_nothing_behind() -> None:
    """Leaves no zombie, no descriptor and no change in this process."""
    before = sorted(os.listdir("/proc/self/fd")), _children()
    changed: list[int] = []

    validation_run.in_child(lambda: changed.append(1), timeout_seconds=10)

    assert changed == []
    assert (sorted(os.listdir("/proc/self/fd")), _children()) == before


def _children() -> str:
    return Path("/proc/thread-self/children").read_text()


def _refuse() -> None:
    raise ModelLoadError("the tree is a cycle")


def _fail() -> None:
    raise ValueError("no such column")


def _crash() -> None:
    ctypes.string_at(0)


def _run_out_of_memory() -> None:
    raise MemoryError


def _exit() -> None:
    sys.exit(0)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (_refuse, "^the tree is a cycle$"),
        (_fail, "ValueError: no such column"),
        (_crash, r"crashed the process that validated it \(SIGSEGV\); its file is damaged"),
        (_run_out_of_memory, "more memory than there is"),
        (os.abort, "SIGABRT"),
        (_exit, "SystemExit: 0"),
        (lambda: os.kill(os.getpid(), 9), "killed because memory ran out"),
        (lambda: os._exit(7), "exit code 7"),
    ],
)
def test_work_that_does_not_is_a_load_error_with_the_reason(work: object, message: str) -> None:
    """A crash, hang or error of the child is an error with its reason here (C-061)."""
    with pytest.raises(ModelLoadError, match=message):
        validation_run.in_child(work, timeout_seconds=10)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("work", "is_memory"),
    [(_run_out_of_memory, True), (lambda: os.kill(os.getpid(), 9), True), (_crash, False)],
)
def test_want_of_memory_is_told_from_other_reasons(work: object, is_memory: bool) -> None:
    """The error says whether memory was the reason, which is 507 (C-081)."""
    with pytest.raises(ModelLoadError) as failure:
        validation_run.in_child(work, timeout_seconds=10)  # type: ignore[arg-type]

    assert failure.value.details["is_memory"] is is_memory


@pytest.mark.parametrize(
    ("character", "written"),
    [("x", "x"), ("é", "é"), ("\N{GRINNING FACE}", "\N{GRINNING FACE}"), ("\udcff", "\\udcff")],
)
def test_long_reason_is_cut_and_still_heard(character: str, written: str) -> None:
    """Long problems with any characters arrive, cut to a bounded length."""

    def refuse() -> None:
        raise ModelLoadError("the model is " + character * 100_000)

    with pytest.raises(ModelLoadError) as failure:
        validation_run.in_child(refuse, timeout_seconds=10)

    assert failure.value.message.startswith(f"the model is {written}")
    assert len(failure.value.message) == 4000


def test_work_that_hangs_is_killed() -> None:
    """A model that hangs fails the validation run at its time limit."""
    started = time.monotonic()

    with pytest.raises(ModelLoadError, match="took longer than"):
        validation_run.in_child(lambda: time.sleep(60), timeout_seconds=0.2)

    assert time.monotonic() - started < 5
