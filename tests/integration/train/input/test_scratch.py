"""Directories of temporary files, and the removal of the files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.input import scratch
from train.input.scratch import Scratch


@pytest.fixture
def only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one directory that the job may write to."""
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_directory_of_a_killed_job_is_removed_by_the_next(
    only_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGKILL leaves a directory; one that is in use stays (C-040)."""
    script = f"""
import os, signal, sys, tempfile
from pathlib import Path
tempfile.gettempdir = lambda: {str(only_place)!r}
from train.input.scratch import Scratch
scratch = Scratch(Path({str(only_place)!r}))
(scratch.directory() / "cache").write_text("x")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[4],
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
    )
    (abandoned,) = only_place.iterdir()
    monkeypatch.setattr(scratch, "_NEW_SECONDS", -1)
    in_use = Scratch(only_place)
    assert in_use.directory().exists()

    another = Scratch(only_place)

    assert another.directory().exists()
    assert in_use.directory().exists()
    assert not abandoned.exists()
