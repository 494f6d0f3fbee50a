"""CPU time of the machine, read from /proc/stat."""

from pathlib import Path

import pytest

from benchmarks.harness import machine
from benchmarks.harness.process_tree import TICKS_PER_SECOND


def test_busy_seconds_leaves_out_idle_and_waiting_and_guests(tmp_path: Path) -> None:
    """user 1, nice 2, system 3, irq 6, softirq 7, steal 8; a guest's time is in user's already."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 100 100 100 100 100 100 100 100 100 100\n")

    assert machine.busy_seconds(stat) == pytest.approx(27 / TICKS_PER_SECOND)


def test_busy_seconds_of_another_file_is_an_error(tmp_path: Path) -> None:
    """Rather than a wrong number."""
    stat = tmp_path / "stat"
    stat.write_text("intr 1 2 3\n")

    with pytest.raises(ValueError, match="first line"):
        machine.busy_seconds(stat)


def test_facts_name_the_machine() -> None:
    """Of this one, whichever it is."""
    facts = machine.facts()

    assert int(facts["cpus"]) >= 1
    assert facts["cpu"]
