"""Launcher of multi-model-server: runs it as a child, drains it, and leaves no process behind.

multi-model-server ends at once on SIGTERM: it drops requests in flight, and its workers go on
running as orphans. So the launcher gets SIGTERM, waits until nothing is in flight, ends the server,
and then the rest of its process group.
"""

import ctypes
import logging
import os
import signal
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from container.errors import PlatformError
from container.settings import Settings
from serve.mms import configuration
from serve.mms.configuration import Command
from serve.mms.in_flight import InFlight

logger = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.05
# Requests that were on their way when SIGTERM came are still answered.
_QUIET_SECONDS = 1.0
# The platform kills 30 s after SIGTERM (C-062).
_DRAIN_SECONDS = 22.0
_EXIT_SECONDS = 2.0
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def run(settings: Settings) -> None:
    """Serve until SIGTERM.

    Raises:
        SettingsError, PlatformError: the server cannot be started, or ended by itself.
    """
    configuration.check(settings)
    with tempfile.TemporaryDirectory(prefix="byoa-mms-", ignore_cleanup_errors=True) as name:
        work_dir = Path(name).resolve()
        command = configuration.prepare(settings, work_dir, sys.executable, os.environ)
        logger.info("server_starting", extra={"port": settings.port, "engine": "mms"})
        with closing(InFlight(work_dir)) as in_flight:
            status = supervise(command, in_flight)
    if status is not None:
        raise PlatformError(f"multi-model-server ended with status {status}; see the lines above")


def supervise(command: Command, in_flight: InFlight) -> int | None:
    """Run the command as the leader of a process group until SIGTERM, or until it ends.

    All processes of the group have ended afterwards, and all children of this process are reaped,
    also orphans that it adopted.

    Returns:
        The exit status of a server that ended by itself, 128 + N for signal N; None after SIGTERM.
    """
    # Orphans become children of this process, as they do of PID 1.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    awaited = {*_STOP_SIGNALS, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        server = os.posix_spawn(
            command.program,
            command.arguments,
            command.environment,
            setpgroup=0,
            setsigmask=before,
            setsigdef=[signal.SIGPIPE],  # Python ignores SIGPIPE, and a child would inherit that
        )
        try:
            return _watch(server, in_flight, awaited)
        finally:
            _end_group(server)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(server: int, in_flight: InFlight, awaited: set[signal.Signals]) -> int | None:
    stopped_at = quiet_since = 0.0
    while True:
        received = signal.sigtimedwait(awaited, _POLL_SECONDS if stopped_at else 3600.0)
        status = _reap(server)
        if status is not None:
            return None if stopped_at else status
        now = time.monotonic()
        if not stopped_at:
            if received is None or received.si_signo not in _STOP_SIGNALS:
                continue
            logger.info("server_stopping")
            stopped_at = quiet_since = now
        if in_flight.is_any():
            quiet_since = now
        if now - quiet_since > _QUIET_SECONDS or now - stopped_at > _DRAIN_SECONDS:
            return None


def _reap(server: int) -> int | None:
    """Reap children that have ended; return the exit status of the server if it is one of them."""
    found = None
    while True:
        try:
            process_id, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process_id == 0:
            return found
        if process_id == server:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _end_group(group: int) -> None:
    """Send SIGTERM to the process group, and SIGKILL to processes that do not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _EXIT_SECONDS
        try:
            os.killpg(group, number)
            while time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS / 5)
                _reap(group)
                os.killpg(group, 0)
        except ProcessLookupError:
            return
    logger.warning("processes_left", extra={"process_group": group})
