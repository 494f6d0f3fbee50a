"""CPU time, memory, files and threads of all processes of a server, read from /proc.

A server is started in a session of its own (``local_test.host_process``), so its processes are
those of that session, also the ones whose parent has ended. CPU time of a child that has ended
counts once its parent has waited for it; until then it is a zombie and still listed.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat``; times are in ticks."""

    pid: int
    state: str
    session: int
    own_ticks: int
    ended_children_ticks: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory in bytes, files and threads of all living processes of a server."""

    pss: int
    rss: int
    open_files: int
    threads: int
    processes: int


def parse_stat(line: str) -> Process:
    """Read proc(5): ``pid (name) state ppid pgrp session …``; a name may hold spaces and ')'."""
    pid, _, rest = line.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    user, system, children_user, children_system = map(int, fields[11:15])
    return Process(
        pid=int(pid),
        state=fields[0],
        session=int(fields[3]),
        own_ticks=user + system,
        ended_children_ticks=children_user + children_system,
    )


def processes_of(session: int, proc: Path = PROC) -> Iterator[Process]:
    """Find the processes of a session, zombies too."""
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            process = parse_stat((entry / "stat").read_text())
        except OSError:  # ended since the listing
            continue
        if process.session == session:
            yield process


def cpu_seconds(session: int, proc: Path = PROC) -> float:
    """CPU time, user and system, that a server has used since its start."""
    return sum(
        _own_seconds(process) + process.ended_children_ticks / TICKS_PER_SECOND
        for process in processes_of(session, proc)
    )


def footprint(session: int, proc: Path = PROC) -> Footprint:
    """Measure memory, files and threads of the living processes of a server."""
    pss = rss = open_files = threads = processes = 0
    for process in processes_of(session, proc):
        if process.state == _ZOMBIE:
            continue
        entry = proc / str(process.pid)
        try:
            rollup = parse_kilobytes((entry / "smaps_rollup").read_text())
            open_files += sum(1 for _ in (entry / "fd").iterdir())
            threads += sum(1 for _ in (entry / "task").iterdir())
        except OSError:  # ended since the listing
            continue
        pss += rollup["Pss"]
        rss += rollup["Rss"]
        processes += 1
    return Footprint(pss, rss, open_files, threads, processes)


def parse_kilobytes(text: str) -> dict[str, int]:
    """Read the lines ``Name:   12 kB`` of a /proc file, as bytes."""
    fields = (line.split() for line in text.splitlines())
    return {
        words[0].removesuffix(":"): int(words[1]) * 1024
        for words in fields
        if len(words) == 3 and words[2] == "kB"
    }


def _own_seconds(process: Process) -> float:
    """A process's own time in nanoseconds where the kernel gives it, else in ticks of 10 ms.

    The clock is the one of ``clock_getcpuclockid(3)``, which Python does not have for other
    processes: the complement of the number, shifted, and 2 for the scheduler's clock.
    """
    try:
        return time.clock_gettime(~process.pid << 3 | 2)
    except OSError:  # a zombie has none
        return process.own_ticks / TICKS_PER_SECOND
