"""CPU and memory limits of this container, as its control groups (v1 or v2) set them.

Reads the groups from the process's own up to the root: the smallest limit on the way holds.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def cpu_count(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Number of usable CPUs: the affinity mask cut by the quota, at least 1."""
    count = len(os.sched_getaffinity(0))
    for directory in _groups(root, membership, controller="cpu"):
        quota = _quota(directory)
        if quota is not None:
            count = min(count, math.ceil(quota))
    return max(1, count)


def memory_bytes(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Usable memory: that of the host, cut by the limits of the groups."""
    granted = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for directory in _groups(root, membership, controller="memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(directory / name)
            if words and words[0] != "max":
                granted = min(granted, int(words[0]))
    return granted


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process, shared pages included; 0 if unknown."""
    words = _words(statm)
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if words else 0


def memory_kills(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Number of processes of this container that the kernel's OOM killer has killed."""
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
    """Memory available now; caches that the kernel can reclaim count as free."""
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
    """Return the number after `name` in a file of names and numbers; 0 without the name."""
    words = _words(file)
    return int(words[words.index(name) + 1]) if name in words else 0


def _quota(directory: Path) -> float | None:
    """CPUs granted by one group; None without a limit."""
    unified = _words(directory / "cpu.max")
    if unified:
        return None if unified[0] == "max" else int(unified[0]) / int(unified[1])
    quota = _words(directory / "cpu.cfs_quota_us")
    period = _words(directory / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        return int(quota[0]) / int(period[0])
    return None


def _groups(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of this process's group and its parents, of either version."""
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
        # Inside a container the path may be the host's: missing directories are skipped.
        for group in (path, *map(str, Path(path).parents)):
            yield top / group.strip("/")


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
