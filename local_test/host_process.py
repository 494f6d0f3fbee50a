"""A program as a process group of this machine: the ``ProgramHandle`` of process mode."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from local_test.outcomes import PortInUseError

LOOPBACK = "127.0.0.1"
GONE_TIMEOUT_SECONDS = 5.0  # for orphans to die of SIGKILL
IS_LINUX = sys.platform.startswith("linux")


class HostProcess:
    """A program in a session and process group of its own, with no standard input.

    Args:
        environment: All of it; nothing is inherited.
        port_reservation: Closed on release, see :func:`reserve_port`.
    Raises:
        OSError: the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        working_dir: Path,
        port_reservation: socket.socket | None = None,
    ) -> None:
        self._port_reservation = port_reservation
        self._is_group_ended = False
        # A file and not a pipe: the program is never blocked by a reader that is slow or gone.
        self._output_file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- outlives this
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=self._output_file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=working_dir,
                start_new_session=True,
            )
        except OSError:
            self._output_file.close()
            self._close_reservation()
            raise

    @property
    def name(self) -> str:
        return f"process group {self._process.pid}"

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def output_file(self) -> IO[bytes]:
        return self._output_file

    def wait(self, timeout_seconds: float) -> int | None:
        try:
            return_code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        self._end_group()
        return return_code if return_code >= 0 else 128 - return_code

    def send_signal(self, signal_number: int) -> None:
        self._process.send_signal(signal_number)

    def process_ids(self) -> tuple[int, ...]:
        return tuple(sorted(members_of_group(self._process.pid)))

    def release(self) -> None:
        self._end_group()
        self._close_reservation()

    def _end_group(self) -> None:
        """Kill what is left of the group: a container takes its orphans with it, and so does this.

        Once, and as soon as the end of the program is known: later the number may be another's.
        """
        if self._is_group_ended:
            return
        self._is_group_ended = True
        # No such process: all gone. No permission: how macOS reports that only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + GONE_TIMEOUT_SECONDS
        while any(members_of_group(self._process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _close_reservation(self) -> None:
        if self._port_reservation is not None:
            self._port_reservation.close()


def reserve_port(port: int = 0) -> tuple[int, socket.socket | None]:
    """Find a free loopback port, or check the given one, and hold it until the socket is closed.

    On Linux two sockets that both set SO_REUSEADDR may share a port as long as only one of them
    listens. Servers set it (they could not restart otherwise), so ours stays bound beside theirs
    and nobody else is given the port in between. Elsewhere the port is only looked up, a small
    race, and there is no socket.

    Raises:
        PortInUseError: somebody listens on the given port.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reservation.bind((LOOPBACK, port))
    except OSError as error:
        reservation.close()
        raise PortInUseError(f"port {port} of {LOOPBACK} is not free: {error.strerror}") from error
    found: int = reservation.getsockname()[1]
    if IS_LINUX:
        return found, reservation
    reservation.close()
    return found, None


def members_of_group(group: int) -> Iterator[int]:
    """Find the living processes of a process group or session; a zombie is none."""
    if not IS_LINUX:
        listing = subprocess.run(
            ["ps", "-axo", "pid=,pgid="], capture_output=True, text=True, check=True
        )
        for line in listing.stdout.splitlines():
            pid, pgid = line.split()
            if int(pgid) == group:
                yield int(pid)
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            status = (entry / "stat").read_text()
        except OSError:  # ended since the listing
            continue
        # proc(5): pid (name) state ppid pgrp session …; a name may hold spaces and parentheses
        state, _, pgrp, session = status.rpartition(")")[2].split()[:4]
        if state != "Z" and group in {int(pgrp), int(session)}:
            yield int(entry.name)
