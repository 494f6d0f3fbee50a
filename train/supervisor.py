"""The small parent of a training job: PID 1 of the container, alive when the job is not.

    parent: forks before anything large is imported, forwards SIGTERM, reaps, and says how it ended
    child:  the job (`train/job.py`)

Whoever is killed for memory cannot say so. The kernel picks the largest process, which is the
child, and the parent writes the failure file. Exit codes are those of the job; a child that a
signal killed counts as failed: 1.
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
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none is lost between fork and handler
    opt_ml = OptMl(base_dir(environ))
    with contextlib.suppress(OSError):
        # Before anything can go wrong: a reason that is there is taken for this run's own.
        opt_ml.clear_failure()
    with contextlib.suppress(OSError):
        opt_ml.reserve_failure()  # likewise: a disk may fill while the child imports its libraries
    tempfile.gettempdir()  # decided once, by writing to it: not to be asked when it is full
    n_kills = cgroup.memory_kills()
    native_reader.share()
    sys.stdout.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _become_child(parent)
        from train.job import main as run

        return run(environ)
    _forward_signals(child)
    status, usage = _wait_for(child)
    exit_code = os.waitstatus_to_exitcode(status)
    return _conclude(opt_ml, exit_code, usage, is_memory=cgroup.memory_kills() > n_kills)


def _become_child(parent: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before it could be watched
        os._exit(1)
    # Ctrl-C in a terminal reaches both processes; the parent makes it a SIGTERM.
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
    """Wait for the child, and as PID 1 for every orphan of the container (C-004)."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            return status, usage


def _conclude(
    opt_ml: OptMl, exit_code: int, usage: resource.struct_rusage, *, is_memory: bool
) -> int:
    # Not before now: the parent stays small for as long as the job runs.
    from container import logs
    from train import out_of_memory

    try:
        if exit_code >= 0:
            return exit_code
        if exit_code == -signal.SIGTERM:  # before there was anything to save
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
    """What a signal other than SIGKILL and SIGTERM means."""
    if source := native_reader.note():
        return (
            f"{source}: the library that reads it crashed the training process ({signal_name}); "
            "the file is broken, or of a kind that the library cannot read: write it again"
        )
    # A library that cannot write its temporary files may abort instead of saying so.
    places = (Path(tempfile.gettempdir()), opt_ml.base_dir, opt_ml.failure_file.parent)
    if full := [str(place) for place in places if _is_full(place)]:
        return (
            f"no space left on a disk ({', '.join(full)}), and the training process crashed "
            f"({signal_name}); use a larger volume (VolumeSizeInGB)"
        )
    return (
        f"the training process crashed ({signal_name}), which is a fault of the algorithm or its "
        "library; the log ends with what it last said"
    )


def _is_full(place: Path) -> bool:
    try:
        return shutil.disk_usage(place).free < _FULL_BYTES
    except OSError:
        return False
