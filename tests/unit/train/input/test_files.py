"""Which files belong to a channel."""

import os
from pathlib import Path

import pytest

from train.input.files import data_files


def _write(directory: Path, *names: str) -> None:
    for name in names:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1,2\n")


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    directory = tmp_path / "data" / "train"
    directory.mkdir(parents=True)
    return directory


def _names(channel: Path) -> list[str]:
    return [str(path.relative_to(channel)) for path in data_files(channel)]


def test_files_are_found_at_any_depth_in_the_order_of_their_paths(channel: Path) -> None:
    """Nested folders, any name (C-016)."""
    _write(channel, "b", "a/deep/er/z.csv", "a/c.csv", "a b\né.csv")

    assert _names(channel) == ["a/c.csv", "a/deep/er/z.csv", "a b\né.csv", "b"]


def test_foreign_and_empty_files_are_skipped(channel: Path) -> None:
    """A leading dot or underscore, in files and folders, and nothing else in a name, matters."""
    _write(channel, "_SUCCESS", ".DS_Store", "_temporary/0/part", ".git/config", "part_0.tmp")
    (channel / "empty.csv").touch()

    assert _names(channel) == ["part_0.tmp"]


def test_links_are_followed_once(channel: Path, tmp_path: Path) -> None:
    """A linked folder and a linked file count; a second link to the same folder does not."""
    elsewhere = tmp_path / "elsewhere"
    _write(elsewhere, "d.csv")
    os.symlink(elsewhere, channel / "first")
    os.symlink(elsewhere, channel / "second")
    os.symlink(elsewhere / "d.csv", channel / "file.csv")

    assert _names(channel) == ["file.csv", "first/d.csv"]


@pytest.mark.parametrize("target", [".", "..", "../..", "inner", "/"])
def test_links_that_lead_back_do_not_loop(channel: Path, target: str) -> None:
    """Neither the channel itself, nor what lies beside it, is read through a link."""
    _write(channel, "a.csv", "inner/b.csv")
    _write(channel.parent / "validation", "c.csv")
    os.symlink(target, channel / "inner" / "back")
    os.symlink(target, channel / "loop")

    assert {Path(name).name for name in _names(channel)} == {"a.csv", "b.csv"}
    assert len(_names(channel)) == 2


def test_broken_link_is_skipped(channel: Path) -> None:
    """It is no file."""
    _write(channel, "a.csv")
    os.symlink("nowhere", channel / "broken")

    assert _names(channel) == ["a.csv"]


def test_channel_that_is_a_file_is_that_file(channel: Path) -> None:
    """Some emulators mount one."""
    _write(channel, "a.csv")

    assert data_files(channel / "a.csv") == [channel / "a.csv"]
