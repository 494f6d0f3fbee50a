"""Directories of temporary files, and the removal of the files."""

import logging
import os
import time
from pathlib import Path

import pytest

from train.input import scratch
from train.input.scratch import Scratch

SHARED_MEMORY = Path("/dev/shm")
needs_tmpfs = pytest.mark.skipif(not os.access(SHARED_MEMORY, os.W_OK), reason="no /dev/shm")


@pytest.fixture
def only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory that the job may write to."""
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_records_stay_in_memory_up_to_a_quarter(only_place: Path) -> None:
    """Released memory may be used again."""
    place = Scratch(only_place, memory_bytes=400)

    assert place.keep_in_memory(60)
    assert not place.keep_in_memory(60)
    assert place.keep_in_memory(40)
    place.release(60)
    assert place.keep_in_memory(60)


def test_file_has_no_name(only_place: Path) -> None:
    """However the job ends, it leaves nothing (C-040)."""
    with Scratch(only_place).open_file() as file:
        file.write(b"x")
        assert list(only_place.iterdir()) == []


def test_directory_is_removed_with_the_job(only_place: Path) -> None:
    """Leaves no temporary file after the job (C-039, C-040)."""
    place = Scratch(only_place)

    directory = place.directory()
    (directory / "cache").write_text("x")

    assert directory.parent == only_place
    assert place.directory() == directory
    del place
    assert list(only_place.iterdir()) == []


@needs_tmpfs
def test_file_systems_in_memory_are_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --tmpfs /tmp the volume at /opt/ml is used."""
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(SHARED_MEMORY))

    place = Scratch(tmp_path)

    assert place.has_disk
    assert place.directory().parent == tmp_path


@needs_tmpfs
def test_without_a_disk_everything_stays_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Files in a tmpfs would count against the memory, too."""
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(SHARED_MEMORY))

    with caplog.at_level(logging.WARNING):
        place = Scratch(Path("/nowhere"), memory_bytes=400)

    assert not place.has_disk
    assert place.keep_in_memory(10**9)
    assert [record.message for record in caplog.records] == ["no_disk_for_temporary_files"]


def test_directory_with_the_most_space_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's volumes differ in size."""
    (tmp_path / "output").mkdir()
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(small))
    rooms = {tmp_path: 10, tmp_path / "output": 30, small: 20}
    monkeypatch.setattr(scratch, "_free_bytes", rooms.__getitem__)

    assert Scratch(tmp_path).directory().parent == tmp_path / "output"


def test_sweeping_leaves_a_directory_that_was_just_made(only_place: Path) -> None:
    """Its job may not have locked it yet."""
    fresh = only_place / "byoa-scratch-fresh"
    fresh.mkdir()
    old = only_place / "byoa-scratch-old"
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)

    Scratch(only_place).directory()

    assert fresh.exists()
    assert not old.exists()
