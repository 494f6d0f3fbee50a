"""The machine that is measured on, and its foreign load."""

import os
import platform
from pathlib import Path

from benchmarks.harness.process_tree import PROC, TICKS_PER_SECOND, parse_kilobytes

_STAT_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE_FIELDS = ("idle", "iowait")


def busy_seconds(stat_file: Path = PROC / "stat") -> float:
    """CPU time of all CPUs since boot, stolen time included; seconds."""
    name, *values = stat_file.read_text().partition("\n")[0].split()
    if name != "cpu":
        raise ValueError(f"{stat_file}: the first line is not the sum of all CPUs")
    ticks = dict(zip(_STAT_FIELDS, map(int, values), strict=False))
    return sum(t for field, t in ticks.items() if field not in _IDLE_FIELDS) / TICKS_PER_SECOND


def facts() -> dict[str, str | int]:
    """Describe the machine, so that two reports can be compared."""
    memory = parse_kilobytes((PROC / "meminfo").read_text())["MemTotal"]
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
