import os
from pathlib import Path

import pytest

from container import cgroup


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        (
            "4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("0::/\n", {}, 4),
    ],
)
def test_cpu_count_is_the_smallest_limit_on_the_way(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    """Quotas of either version hold, those of parent groups too, rounded up to whole CPUs."""
    root = _write(tmp_path / "cgroup", files)
    own = tmp_path / "membership"
    own.write_text(membership)

    assert cgroup.cpu_count(root, own) == expected


@pytest.mark.usefixtures("two_cpus")
def test_cpu_count_without_control_groups_is_the_affinity(tmp_path: Path) -> None:
    """A host without /proc or /sys still gets an answer."""
    assert cgroup.cpu_count(tmp_path / "none", tmp_path / "absent") == 4


def test_resident_bytes_unknown_are_zero(tmp_path: Path) -> None:
    """Without /proc."""
    assert cgroup.resident_bytes(tmp_path / "statm") == 0


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a\n", {"a/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
        ("4:memory:/x\n", {"memory/memory.oom_control": "under_oom 0\noom_kill 1\n"}, 1),
        ("0::/\n", {}, 0),
    ],
)
def test_memory_kills_are_those_of_the_own_group(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    """Both versions count them; without control groups there is nothing to count."""
    root = _write(tmp_path / "cgroup", files)
    own = tmp_path / "membership"
    own.write_text(membership)

    assert cgroup.memory_kills(root, own) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 800 * 1024),
        (
            "0::/a\n",
            {
                "a/memory.max": "1000000\n",
                "a/memory.current": "900000\n",
                "a/memory.stat": "anon 5\ninactive_file 300000\n",
            },
            400_000,
        ),
        (
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "500000\n",
                "memory/x/memory.usage_in_bytes": "600000\n",
                "memory/x/memory.stat": "inactive_file 9\ntotal_inactive_file 50000\n",
            },
            0,
        ),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n"}, 800 * 1024),
    ],
)
def test_available_memory_is_the_least_that_any_group_leaves(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    """C-081: what only caches files counts as free; the host's own limit holds, too."""
    root = _write(tmp_path / "cgroup", files)
    own = tmp_path / "membership"
    own.write_text(membership)
    host = tmp_path / "meminfo"
    host.write_text("MemTotal: 1000 kB\nMemAvailable: 800 kB\n")

    assert cgroup.memory_available_bytes(root, own, host) == expected
