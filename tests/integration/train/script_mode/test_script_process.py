"""A program of the user and the job that waits for it, as two processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS, wait_for

ROOT = Path(__file__).parents[4]

# `run` belongs into the main thread of a process that has no other children.
JOB = """
import json, os, sys
from pathlib import Path
from train.script_mode import script_process
ended = script_process.run(sys.argv[2:], directory=Path(sys.argv[1]), environment=dict(os.environ))
print(json.dumps([ended.exit_code, ended.stderr, ended.was_stopped]))
"""


def _start(directory: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(directory), *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _python(directory: Path, script: str) -> subprocess.Popen[bytes]:
    return _start(directory, sys.executable, "-c", textwrap.dedent(script))


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


@pytest.mark.parametrize(("ending", "code"), [("exit 0", 0), ("exit 9", 9), ("kill -SEGV $$", 139)])
def test_exit_code_and_directory_are_those_of_the_program(
    tmp_path: Path, ending: str, code: int
) -> None:
    """128 + N for signal N, as a shell counts."""
    with _start(tmp_path, "/bin/sh", "-c", f"pwd; echo error >&2; {ending}") as job:
        output, error = job.communicate(timeout=PATIENCE_SECONDS)

    directory, result = output.decode().splitlines()
    assert directory == str(tmp_path)
    assert json.loads(result) == [code, ["error"], False]
    assert error == b"error\n"


def test_end_of_a_long_stderr_is_kept_and_all_of_it_is_relayed(tmp_path: Path) -> None:
    """Memory stays bounded; bytes that are no UTF-8 do no harm."""
    script = """
        import sys
        sys.stderr.buffer.write(b"line\\n" * 200_000 + b"\\xff last\\n")
    """
    with _python(tmp_path, script) as job:
        output, error = job.communicate(timeout=PATIENCE_SECONDS)

    _, lines, _ = json.loads(output)
    assert len(error) == 5 * 200_000 + len(b"\xff last\n")
    assert lines[-1] == "\ufffd last"
    assert 10_000 < len(lines) < 15_000


def test_helper_that_leaves_the_group_does_not_hold_the_job(tmp_path: Path) -> None:
    """It has stderr open for ever."""
    script = """
        import subprocess, sys
        helper = subprocess.Popen(["sleep", "600"], start_new_session=True)
        print(helper.pid, flush=True)
    """
    with _python(tmp_path, script) as job:
        assert job.stdout is not None
        helper = int(job.stdout.readline())
        try:
            assert json.loads(job.stdout.readline()) == [0, [], False]
        finally:
            os.kill(helper, signal.SIGKILL)


def test_program_ends_with_the_job(tmp_path: Path) -> None:
    """A job that SIGKILL ends leaves nothing that trains on."""
    with _start(tmp_path, "/bin/sh", "-c", "echo $$; exec sleep 600") as job:
        assert job.stdout is not None
        program = int(job.stdout.readline())
        assert _is_running(program)

        job.kill()

        wait_for(lambda: not _is_running(program))


def test_signals_are_those_of_an_ordinary_process(tmp_path: Path) -> None:
    """A program that handles neither signal ends by them: nothing is blocked or ignored."""
    script = """
        import signal
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
        print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)
        signal.pause()
    """
    with _python(tmp_path, script) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"True\n"
        assert job.stdout.readline() == b"[]\n"
        job.send_signal(signal.SIGTERM)
        assert json.loads(job.stdout.readline()) == [143, [], True]
