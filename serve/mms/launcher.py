"""Runs multi-model-server as a child process and leaves nothing of it behind.

multi-model-server ends at once on SIGTERM: it drops the requests that it is answering, and its
workers, which it has started as processes of their own, go on running without it. So SIGTERM ends
here, waits until nothing is being answered, ends the server, and then what is left of its process
group.
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
        SettingsError, PlatformError: it cannot be started, or ended by itself.
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

    All processes of the group are gone afterwards, and every child of this process is waited for,
    also those that it has inherited as PID 1.

    Returns:
        The exit status if it ended unasked, 128 + N for signal N, or None.
    """
    # What loses its parent becomes a child of this process, as it would of PID 1.
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
            setsigdef=[signal.SIGPIPE],  # Python ignores it, and what is ignored is inherited
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
    """Wait for the children that have ended; return the exit status of the server among them."""
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
    """SIGTERM for all of them, and SIGKILL for those that are still there a little later."""
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
