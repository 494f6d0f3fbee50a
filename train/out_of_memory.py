"""What to say when memory ran out: how much was used of how much, and what helps.

Imported by the small parent: nothing but the standard library and `container.cgroup`.
"""

import sys

from container import cgroup

_HELP = (
    "use an instance with more memory, or more hosts; fewer columns and a smaller max_depth or "
    "max_bin need less (in libsvm, one column number far too large counts as that many columns)"
)


def message(max_rss: int, *, was_killed: bool, is_certain: bool = True) -> str:
    """The reason for the failure file.

    Args:
        max_rss: `ru_maxrss` of the process.
        was_killed: Whether the kernel ended it, rather than refused to give it more.
        is_certain: Whether the kernel itself says that memory was the reason.
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
