"""The small parent and its child, as two processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.unit.train.conftest import Tree
from tests.waiting import PATIENCE_SECONDS, wait_for

ROOT = Path(__file__).parents[3]

# The parent with a job of the test's own in place of `train.job`.
PROGRAM = textwrap.dedent(
    """
    import ctypes, os, signal, subprocess, sys, time, types
    import train.supervisor

    def child(environ):
        print("running", os.getpid(), os.getppid(), flush=True)
        {body}
        return 0

    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to it, as to PID 1
    sys.modules["train.job"] = types.SimpleNamespace(main=child)
    sys.exit(train.supervisor.main(dict(os.environ)))
    """
)


def _start(tree: Tree, body: str) -> subprocess.Popen[str]:
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("    {body}", indented)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | tree.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _child_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("running"):
            assert int(line.split()[2]) == process.pid
            return int(line.split()[1])
    raise AssertionError("the child never ran")


@pytest.mark.parametrize("code", [0, 1, 3, 143])
def test_exit_code_is_the_jobs_own(tree: Tree, code: int) -> None:
    """The supervisor returns it unchanged (C-026, C-027)."""
    with _start(tree, f"return {code}") as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == code
    assert tree.failure == ""


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "killed, peak "),
        (signal.SIGSEGV, "the training process crashed (SIGSEGV)"),
        (signal.SIGABRT, "the training process crashed (SIGABRT)"),
    ],
)
def test_death_of_the_child_is_explained(tree: Tree, number: signal.Signals, reason: str) -> None:
    """The reason names the signal, the memory and the remedy (C-027, C-028)."""
    (tree.root / "output").mkdir()
    (tree.root / "output" / ".failure-reserve").write_bytes(b" " * 4096)
    with _start(tree, "time.sleep(60)") as process:
        os.kill(_child_of(process), number)
        output = process.communicate(timeout=PATIENCE_SECONDS)[0]

    assert process.returncode == 1
    assert tree.failure.startswith(reason)
    assert "training_failed" in output
    assert os.listdir(tree.root / "output") == ["failure"]
    if number == signal.SIGKILL:
        peak, of, limit, unit = tree.failure.split()[2:6]
        assert 5 < int(peak) < int(limit)
        assert (of, unit) == ("of", "MB:")
        assert "use an instance with more memory" in tree.failure


@pytest.mark.parametrize(
    ("name", "shown"), [("part-0.parquet", "part-0.parquet"), ("\udcff" * 9000, r"\udcff")]
)
def test_file_whose_reader_crashes_the_job_is_named(tree: Tree, name: str, shown: str) -> None:
    """A library in C++ may end the process on a broken file; only the supervisor can say which."""
    body = f"""
        from train.input.parsing import native_reader
        with native_reader.reading("train", "file " + {name!a}):
            os.abort()"""
    with _start(tree, body) as process:
        process.communicate(timeout=60)

    assert process.returncode == 1
    assert tree.failure.startswith(f"channel 'train', file {shown}")
    assert "the library that reads it crashed the training process (SIGABRT)" in tree.failure


def test_file_that_was_read_before_the_crash_is_not_blamed(tree: Tree) -> None:
    """The note lasts as long as the reader works."""
    body = """
        from train.input.parsing import native_reader
        with native_reader.reading("train", "file 'part-0'"):
            pass
        os.abort()"""
    with _start(tree, body) as process:
        process.communicate(timeout=60)

    assert tree.failure.startswith("the training process crashed (SIGABRT)")


def test_failure_file_of_the_killed_job_itself_is_kept(tree: Tree) -> None:
    """The job knew the cause better than its supervisor."""
    (tree.root / "output").mkdir()
    body = """
        with open(os.environ["SAGEMAKER_BASE_DIR"] + "/output/failure", "w") as file:
            file.write("row 7 is not a row")
        os.kill(os.getpid(), signal.SIGKILL)"""
    with _start(tree, body) as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 1
    assert tree.failure == "row 7 is not a row"


def _leave_old_failure(tree: Tree) -> None:
    (tree.root / "output").mkdir()
    (tree.root / "output" / "failure").write_text("the reason of an earlier run")


def test_failure_of_an_earlier_run_is_removed(tree: Tree) -> None:
    """Success leaves no failure file behind (C-026)."""
    _leave_old_failure(tree)
    with _start(tree, "return 0") as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert not (tree.root / "output" / "failure").exists()


@pytest.mark.parametrize("body", ["os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
def test_failure_of_an_earlier_run_does_not_hide_how_the_child_died(tree: Tree, body: str) -> None:
    """Also where it dies before it could clear anything itself (C-027, C-028)."""
    _leave_old_failure(tree)
    with _start(tree, body) as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert tree.failure.startswith(("killed, peak ", "the training process crashed (SIGABRT)"))


def test_failure_of_an_earlier_run_does_not_hide_a_refused_setting(tree: Tree) -> None:
    """The job that is run here is the real one (C-027, C-028)."""
    _leave_old_failure(tree)
    environ = os.environ | {"PYTHONPATH": str(ROOT)} | tree.environ

    finished = subprocess.run(
        [sys.executable, "-m", "container", "train"],
        cwd=ROOT,
        env=environ | {"SAGEMAKER_CONTAINER_LOG_LEVEL": "loud"},
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert finished.returncode == 1
    assert "SAGEMAKER_CONTAINER_LOG_LEVEL='loud' is not accepted" in tree.failure


def test_failure_file_that_cannot_be_removed_does_not_end_the_job(tree: Tree) -> None:
    """It may be anything, on any kind of mount (C-026)."""
    (tree.root / "output" / "failure").mkdir(parents=True)
    with _start(tree, "return 0") as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_child_as_sigterm(tree: Tree, number: signal.Signals) -> None:
    """Ctrl-C, which both processes receive, ends the job in good order, too (C-003, C-029)."""
    body = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); time.sleep(60)"
    with _start(tree, body) as process:
        _child_of(process)
        time.sleep(0.1)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 143


def test_sigterm_before_the_child_can_handle_it_stops_the_job(tree: Tree) -> None:
    """While it imports; there is nothing to save, and it is no failure (C-029)."""
    with _start(tree, "time.sleep(60)") as process:
        _child_of(process)
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 143
    assert tree.failure == ""


def test_child_does_not_outlive_its_supervisor(tree: Tree) -> None:
    """A job whose supervisor is killed stops writing."""
    with _start(tree, "time.sleep(60)") as process:
        child = _child_of(process)
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)

    wait_for(lambda: not _is_alive(child))


def _is_alive(pid: int) -> bool:
    """Return True if the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_orphans_are_reaped(tree: Tree) -> None:
    """As PID 1 the supervisor inherits orphans, and reaps them."""
    body = """
        shell = ["sh", "-c", "sleep 0.1 >/dev/null & echo $!"]
        orphan = int(subprocess.check_output(shell))
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{orphan}") and time.monotonic() < deadline:
            time.sleep(0.01)  # a zombie is there until it is reaped
        return 7 if os.path.exists(f"/proc/{orphan}") else 0"""
    with _start(tree, body) as process:
        process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 0


def test_supervisor_is_small(tree: Tree) -> None:
    """It imports no framework, no NumPy and no job: the kernel kills the child for memory."""
    with _start(tree, "time.sleep(60)") as process:
        _child_of(process)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)

    assert "numpy" not in maps
    assert "pydantic" not in maps
    (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    # kB: 12,000, and as much again where coverage is measured; the child has hundreds of thousands.
    assert int(resident) < 40_000
