"""Walls around a model process: what the code of a model is kept from.

Descriptors, limits, working directory, standard streams, process group and signal handlers are its
own. With many models it also has a user of its own, if this server may change users and others may
read the files: then the kernel refuses it the memory of other processes, signals to them, and the
files of the server. docs/multi_model.md has the table.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import signal
import stat
import sys
import tempfile
from pathlib import Path

from container import cgroup

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15  # prctl(2)
# Ids that the system gives to dynamic users (systemd, "Users, groups, UIDs and GIDs"): no account
# has one of them.
_FIRST_USER, N_USERS = 61184, 4336
_MAX_PROCESSES = 1024  # of a user: a fork bomb ends there
_CONNECTION = 3  # descriptor of the connection in every model process
_PROGRAM_DIR = Path(__file__).parents[2]


def contain(name: bytes) -> None:
    """Let this process harm no other one; for a model process and for a validation run.

    It does not outlive the fork server, leads a group that can be killed with it, and is the
    kernel's first choice when memory runs out.

    Args:
        name: As `ps` shows it, at most 15 bytes.
    """
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, name)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def own_streams(connection: int, output: int) -> int:
    """Keep no descriptor but standard streams of its own and the connection to the worker.

    Args:
        connection: Descriptor of the connection.
        output: Write end of the pipe that takes what the code prints.
    Returns:
        The descriptor that the connection has now.
    """
    # Copies beyond those that are replaced.
    kept = [fcntl.fcntl(each, fcntl.F_DUPFD, _CONNECTION + 1) for each in (connection, output)]
    null = os.open(os.devnull, os.O_RDONLY)
    for theirs, own in ((null, 0), (kept[1], 1), (kept[1], 2), (kept[0], _CONNECTION)):
        os.dup2(theirs, own)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > _CONNECTION:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        open(descriptor, mode, buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        for descriptor, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    return _CONNECTION


def enter(directory: Path | None) -> None:
    """Make a directory of its own the working one, and that of temporary files."""
    if directory is None:  # none could be made
        os.chdir("/")
        return
    os.chdir(directory)
    os.environ["TMPDIR"] = str(directory)
    tempfile.tempdir = None  # read from the environment again


def limit_descriptors(soft_descriptors: int) -> None:
    """Limit descriptors to what programs expect: some close all that they might have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft_descriptors, hard))


def limit_memory() -> None:
    """Limit this process to the memory that is free now, within the limit that it had before."""
    # RLIMIT_DATA counts private writable memory, whether used or not.
    fields = Path("/proc/self/status").read_text().split()
    limit = int(fields[fields.index("VmData:") + 1]) * 1024 + cgroup.memory_available_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:  # `docker run --ulimit data=…`
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def own_user(index: int, directory: Path, working: Path | None) -> str:
    """Become a user that no other process has, where that is possible.

    Args:
        index: Which of the `N_USERS`, from 0.
        directory: The model directory, which the user must be able to read.
        working: Its working directory, which it gets.
    Returns:
        Why the process keeps its user; empty if it has one of its own.
    """
    if os.geteuid() != 0:
        return "the server does not run as root"
    for needed in (directory, _PROGRAM_DIR, Path(sys.prefix)):
        unreadable = _unreadable(needed, whole=needed == directory)
        if unreadable is not None:
            return f"others may not read {unreadable}"
    user = _FIRST_USER + index
    try:
        if working is not None:
            os.chown(working, user, user)
        os.setgroups([])
        os.setresgid(user, user, user)
        resource.setrlimit(resource.RLIMIT_NPROC, (_MAX_PROCESSES, _MAX_PROCESSES))
        os.setresuid(user, user, user)
    except OSError as error:
        return f"the server may not change users: {error.strerror}"
    # A change of user clears both.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 1)  # otherwise a process may not read its own /proc/self
    if working is not None:
        os.environ["HOME"] = str(working)
    return ""


def own_signals_and_log(level: int) -> None:
    """Have the handlers of a program that has just started, and a log on standard error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable(logging.NOTSET)
    for ours in ("container", "serve"):  # the worker logs what concerns the server
        logging.getLogger(ours).setLevel(logging.CRITICAL)
    logging.captureWarnings(False)
    line = "%(levelname)s %(name)s %(message)s"
    logging.root.handlers.clear()  # not closed: their descriptors are
    logging.basicConfig(level=level, format=line, stream=sys.stderr)


def _unreadable(path: Path, *, whole: bool) -> Path | None:
    """Return what any other user may not read of a file or a directory, its parents included."""
    for parent in reversed(path.resolve().parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    pending = [path.resolve()]
    while pending:
        current = pending.pop()
        mode = current.stat().st_mode
        needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if mode & needed != needed:
            return current
        if whole and stat.S_ISDIR(mode):
            pending += current.iterdir()
    return None
