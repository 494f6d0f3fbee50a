"""Failure message of a job that ran out of memory: peak, limit, and remedies.

The supervisor imports it: nothing but the standard library and `container.cgroup` is imported here.
"""

import sys

from container import cgroup

_HELP = (
    "use an instance with more memory, or more hosts; fewer columns and a smaller max_depth or "
    "max_bin need less (in libsvm, one column number far too large counts as that many columns)"
)


def message(max_rss: int, *, was_killed: bool, is_certain: bool = True) -> str:
    """Return the reason for the failure file.

    Args:
        max_rss: `ru_maxrss` of the process, in its platform's unit.
        was_killed: True if the kernel killed the process, False if an allocation failed.
        is_certain: True if the kernel's counters say that memory was the reason.
    """
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    peak, limit = max_rss * bytes_per_unit // 2**20, cgroup.memory_bytes() // 2**20
    if not was_killed:
        return f"out of memory, peak {peak} of {limit} MB: {_HELP}"
    cause = (
        "memory ran out and the kernel ended the training process"
        if is_certain
        else "the training process was ended by SIGKILL, most likely because memory ran out"
    )
    return f"killed, peak {peak} of {limit} MB: {cause}; {_HELP}"
