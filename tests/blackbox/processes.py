"""The processes of a running server, as the host sees them; the same for both backends."""

import os
import re
import signal
from pathlib import Path

from local_test.docker_engine import docker
from local_test.programs import RunningServer
from tests.waiting import wait_for

FORK_SERVER = "fork-server"  # its name as the kernel tells it


def workers_of(server: RunningServer) -> list[int]:
    """Its workers, in the host's numbering: children of its first process, less the fork server."""
    return [
        pid
        for pid in server.process_ids()
        if _parent_of(pid) == server.process_id and _name_of(pid) != FORK_SERVER
    ]


def wait_for_workers(
    server: RunningServer, n_workers: int, *, other_than: int | None = None
) -> list[int]:
    """Wait until the server has exactly so many workers, and return their process ids.

    The placeholder process ends only after the first ping that is 200.

    Args:
        other_than: A worker that was killed.
    """
    workers: list[int] = []

    def are_there() -> bool:
        workers[:] = workers_of(server)
        return len(workers) == n_workers and other_than not in workers

    wait_for(are_there)
    return workers


def kill(server: RunningServer, pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Signal one process of the server, which in a container may be another user's."""
    try:
        os.kill(pid, signal_number)
    except PermissionError:
        inside = _status(pid, "NSpid").split()[-1]
        script = f"import os; os.kill({inside}, {int(signal_number)})"
        docker("exec", server.name, "python", "-c", script)


def zombies_of(server: RunningServer) -> list[int]:
    """Processes that have ended and that nobody has waited for, of the server's whole tree."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:  # ended since the listing
                continue
            parents[int(entry.name)] = (int(fields[1]), fields[0])
    family = {server.process_id}
    while more := {pid for pid, (parent, _) in parents.items() if parent in family} - family:
        family |= more
    return [pid for pid in family if parents.get(pid, (0, ""))[1] == "Z"]


def listening_ports(server: RunningServer) -> set[int]:
    """TCP ports on which a process of the server listens, from the kernel's tables."""
    ports = set()
    for table in ("tcp", "tcp6"):
        sockets = set()
        for pid in server.process_ids():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    sockets.add(str(link.readlink()))
                except OSError:
                    continue
        lines = Path(f"/proc/{server.process_id}/net/{table}").read_text().splitlines()[1:]
        for columns in map(str.split, lines):
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
                ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports


def peak_bytes(pid: int) -> int:
    """The most memory that a process has ever had resident."""
    return int(_status(pid, "VmHWM").split()[0]) * 1024


def resident_bytes(pid: int) -> int:
    """The memory that a process has resident, shared pages included."""
    return int(_status(pid, "VmRSS").split()[0]) * 1024


def _parent_of(pid: int) -> int:
    try:
        return int(_status(pid, "PPid"))
    except OSError:  # ended since the listing
        return 0


def _name_of(pid: int) -> str:
    try:
        return _status(pid, "Name")
    except OSError:
        return ""


def _status(pid: int, name: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(.*)$", text, re.MULTILINE)
    assert found is not None, name
    return found[1]
