"""Supervisor of a training job: PID 1 of the container, which outlives the job.

    supervisor: forks before anything large is imported, forwards SIGTERM, reaps orphans
    child:      the job (`train/job.py`)

A process that the kernel kills for memory cannot report it. The kernel picks the largest process,
which is the child, so the supervisor writes the failure file. The exit code is that of the job; a
child that a signal killed counts as failed: 1.
"""

import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from container import cgroup
from container.opt_ml import OptMl
from container.settings import Settings, base_dir
from train.input.parsing import native_reader

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FULL_BYTES = 2**16  # less than one write of a library's buffer
_STOPPED = 128 + signal.SIGTERM


def main(environ: Mapping[str, str]) -> int:
    """Run the job in a child and return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # no signal is lost between fork and handler
    opt_ml = OptMl(base_dir(environ))
    with contextlib.suppress(OSError):
        # First of all: a failure file of an earlier run would be taken for this run's.
        opt_ml.clear_failure()
    with contextlib.suppress(OSError):
        opt_ml.reserve_failure()  # a disk may fill while the child imports its libraries
    tempfile.gettempdir()  # cached: the first call writes a file, which fails on a full disk
    n_kills = cgroup.memory_kills()
    native_reader.share()
    sys.stdout.flush()
    supervisor, child = os.getpid(), os.fork()
    if child == 0:
        _become_child(supervisor)
        from train.job import main as run

        return run(environ)
    _forward_signals(child)
    status, usage = _wait_for(child)
    exit_code = os.waitstatus_to_exitcode(status)
    return _conclude(opt_ml, exit_code, usage, is_memory=cgroup.memory_kills() > n_kills)


def _become_child(supervisor: int) -> None:
    """Die with the supervisor, and restore the signal handling of an ordinary process."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it exited before prctl took effect
        os._exit(1)
    # Ctrl-C in a terminal reaches both processes; the supervisor sends SIGTERM for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _forward_signals(child: int) -> None:
    def forward(signum: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)

    for number in _SIGNALS:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _wait_for(child: int) -> tuple[int, resource.struct_rusage]:
    """Wait for the child; reap every orphan of the container meanwhile, as PID 1 must (C-004)."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            return status, usage


def _conclude(
    opt_ml: OptMl, exit_code: int, usage: resource.struct_rusage, *, is_memory: bool
) -> int:
    # Imported late: the supervisor stays small while the job runs.
    from container import logs
    from train import out_of_memory

    try:
        if exit_code >= 0:
            return exit_code
        if exit_code == -signal.SIGTERM:  # before there was a model to save
            return _STOPPED
        if exit_code == -signal.SIGKILL:
            reason = out_of_memory.message(usage.ru_maxrss, was_killed=True, is_certain=is_memory)
        else:
            reason = _crash(opt_ml, signal.Signals(-exit_code).name)
        logs.configure(Settings().log_level)
        logger.error("training_failed", extra={"code": "training_killed", "reason": reason})
        try:
            opt_ml.write_failure(reason)
        except OSError as error:
            logger.error("failure_file_not_written", extra={"reason": str(error)})  # noqa: TRY400
        return 1
    finally:
        opt_ml.release_reserve()


def _crash(opt_ml: OptMl, signal_name: str) -> str:
    """Return the reason for an exit by a signal other than SIGKILL and SIGTERM."""
    if source := native_reader.note():
        return (
            f"{source}: the library that reads it crashed the training process ({signal_name}); "
            "the file is broken, or of a kind that the library cannot read: write it again"
        )
    # A library that cannot write its temporary files may abort instead of saying so.
    directories = (Path(tempfile.gettempdir()), opt_ml.base_dir, opt_ml.failure_file.parent)
    if full := [str(path) for path in directories if _is_full(path)]:
        return (
            f"no space left on a disk ({', '.join(full)}), and the training process crashed "
            f"({signal_name}); use a larger volume (VolumeSizeInGB)"
        )
    return (
        f"the training process crashed ({signal_name}), which is a fault of the algorithm or its "
        "library; the last lines of the log tell more"
    )


def _is_full(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free < _FULL_BYTES
    except OSError:
        return False
