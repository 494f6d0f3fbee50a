"""What the kernel really grants this container, as opposed to what the host has.

Reads control groups of version 2 and 1, from the process's own group up to the root: the smallest
limit on the way holds.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def cpu_count(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """CPUs that may be used at once: the affinity mask cut by the quota, at least 1."""
    count = len(os.sched_getaffinity(0))
    for directory in _groups(root, membership, controller="cpu"):
        quota = _quota(directory)
        if quota is not None:
            count = min(count, math.ceil(quota))
    return max(1, count)


def memory_bytes(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Memory that may be used: what the host has, cut by the limits of the groups."""
    granted = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for directory in _groups(root, membership, controller="memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(directory / name)
            if words and words[0] != "max":
                granted = min(granted, int(words[0]))
    return granted


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Memory that this process uses at the moment, shared pages included; 0 if it is not known."""
    words = _words(statm)
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if words else 0


def memory_kills(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """How often the kernel has killed a process of this container because memory ran out."""
    for directory in _groups(root, membership, controller="memory"):
        for name in ("memory.events", "memory.oom_control"):
            words = _words(directory / name)
            if "oom_kill" in words:
                return int(words[words.index("oom_kill") + 1])
    return 0


def memory_available_bytes(
    root: Path = _ROOT,
    membership: Path = Path("/proc/self/cgroup"),
    host: Path = Path("/proc/meminfo"),
) -> int:
    """Memory that could be had now: caches that the kernel would give up count as free."""
    available = _field(host, "MemAvailable:") * 1024 or memory_bytes(root, membership)
    for directory in _groups(root, membership, controller="memory"):
        for limit_file, usage_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _words(directory / limit_file), _words(directory / usage_file)
            if limit and usage and limit[0] != "max":
                in_use = int(usage[0]) - _field(directory / "memory.stat", cache)
                available = min(available, max(0, int(limit[0]) - in_use))
    return available


def _field(file: Path, name: str) -> int:
    """The number after `name` in a file of names and numbers; 0 where there is none."""
    words = _words(file)
    return int(words[words.index(name) + 1]) if name in words else 0


def _quota(directory: Path) -> float | None:
    """CPUs granted by one group; None where it sets no limit."""
    unified = _words(directory / "cpu.max")
    if unified:
        return None if unified[0] == "max" else int(unified[0]) / int(unified[1])
    quota = _words(directory / "cpu.cfs_quota_us")
    period = _words(directory / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        return int(quota[0]) / int(period[0])
    return None


def _groups(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's group and its parents, for either version."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = root
        elif controller in controllers.split(","):
            top = root / controller
        else:
            continue
        # Inside a container the path may be the host's: what cannot be found is passed over.
        for group in (path, *map(str, Path(path).parents)):
            yield top / group.strip("/")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
