import subprocess
import sys
import textwrap


def test_resident_bytes_grow_with_what_is_touched() -> None:
    """In bytes, and of this process: a new one, in which nothing else comes and goes."""
    program = """
        from container import cgroup

        before = cgroup.resident_bytes()
        block = b"x" * (50 * 2**20)
        print(cgroup.resident_bytes() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)

    assert 49 * 2**20 < int(finished.stdout) < 55 * 2**20
