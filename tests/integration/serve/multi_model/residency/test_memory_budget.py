import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize(("hard", "free", "limit"), [(-1, 2**33, 2**33), (2**32, 2**33, 2**32)])
def test_limit_is_never_raised(hard: int, free: int, limit: int) -> None:
    """Limits to the free memory, or to a lower hard limit, which is never raised."""
    program = f"""
        import resource
        from container import cgroup
        from serve.model_process import containment

        resource.setrlimit(resource.RLIMIT_DATA, ({hard}, {hard}))
        cgroup.memory_available_bytes = lambda: {free}
        containment.limit_memory()
        print(*resource.getrlimit(resource.RLIMIT_DATA))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)

    soft, found = map(int, finished.stdout.split())
    assert soft == found
    assert limit <= found < limit + 2**30
