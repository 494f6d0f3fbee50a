"""CPU time and memory of a server, from /proc."""

from pathlib import Path

import pytest

from benchmarks.harness import process_tree
from benchmarks.harness.process_tree import TICKS_PER_SECOND, parse_kilobytes, parse_stat

# Above the kernel's largest process number, so that no clock of a real process is asked.
LEADER, WORKER, ZOMBIE, STRANGER = 10_000_001, 10_000_002, 10_000_003, 10_000_004
SMAPS = "00400000-7fff0000 ---p 00000000 00:00 0 [rollup]\nRss: 300 kB\nPss: {pss} kB\n"


def stat_line(pid: int, *, session: int, own: tuple[int, int], ended: tuple[int, int]) -> str:
    """Write proc(5)'s line with a name that looks like the fields behind it."""
    return (
        f"{pid} (evil) S 1 2 3) S 1 {LEADER} {session} 0 -1 4194304 10 20 30 40"
        f" {own[0]} {own[1]} {ended[0]} {ended[1]} 20 0 1 0 12345\n"
    )


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with a server of three processes, one of them a zombie, and a stranger."""
    for pid, session, own, ended in (
        (LEADER, LEADER, (10, 5), (7, 3)),
        (WORKER, LEADER, (100, 50), (0, 0)),
        (ZOMBIE, LEADER, (20, 0), (0, 0)),
        (STRANGER, STRANGER, (1000, 1000), (1000, 1000)),
    ):
        entry = tmp_path / str(pid)
        for directory in ("fd", "task"):
            (entry / directory).mkdir(parents=True)
            (entry / directory / "1").touch()
        line = stat_line(pid, session=session, own=own, ended=ended)
        (entry / "stat").write_text(line.replace(") S 1", ") Z 1") if pid == ZOMBIE else line)
        (entry / "smaps_rollup").write_text(SMAPS.format(pss=pid - LEADER + 10))
    (tmp_path / "meminfo").touch()
    return tmp_path


def test_parse_stat_with_parentheses_and_spaces_in_the_name_reads_the_right_fields() -> None:
    """The name ends at the last parenthesis."""
    process = parse_stat(stat_line(LEADER, session=42, own=(10, 5), ended=(7, 3)))

    assert (process.pid, process.state, process.session) == (LEADER, "S", 42)
    assert (process.own_ticks, process.ended_children_ticks) == (15, 10)


def test_cpu_seconds_sums_the_session_with_zombies_and_ended_children(proc: Path) -> None:
    """(10 + 5 + 7 + 3) + (100 + 50) + 20 ticks; a stranger's count for nothing."""
    assert process_tree.cpu_seconds(LEADER, proc) == pytest.approx(195 / TICKS_PER_SECOND)


def test_cpu_seconds_of_nobody_is_zero(proc: Path) -> None:
    """A server that has gone uses nothing."""
    assert process_tree.cpu_seconds(1, proc) == 0


def test_footprint_sums_the_living(proc: Path) -> None:
    """Of the leader, 10 kB, and the worker, 11 kB; a zombie holds nothing."""
    footprint = process_tree.footprint(LEADER, proc)

    assert (footprint.pss, footprint.rss) == (21 * 1024, 600 * 1024)
    assert (footprint.open_files, footprint.threads, footprint.processes) == (2, 2, 2)


def test_parse_kilobytes_takes_the_lines_that_hold_an_amount() -> None:
    """Names without the colon, amounts in bytes."""
    assert parse_kilobytes(SMAPS.format(pss=7)) == {"Rss": 300 * 1024, "Pss": 7 * 1024}
