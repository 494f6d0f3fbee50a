"""Command lines of training scripts, by their kind."""

import sys
from pathlib import Path

import pytest

from container.errors import JobConfigError
from train.script_mode import entry_point
from train.script_mode.script_request import Option

SHELL = ["/bin/sh", "-c", 'exec "$0" "$@"']


def _command(directory: Path, program: str) -> list[str]:
    return entry_point.command(directory, Option(program, "variable X"), ["--a", "b c"])


@pytest.mark.parametrize("program", ["train.py", "./train.py", "/opt/ml/code/train.py"])
def test_python_script(tmp_path: Path, program: str) -> None:
    """The same Python as the container's; a full path is that in the sources."""
    (tmp_path / "train.py").touch()

    assert _command(tmp_path, program) == [sys.executable, "train.py", "--a", "b c"]


def test_python_script_beside_a_setup_script_is_a_module(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in AWS's toolkit; the package itself is not installed, and the log says so."""
    (tmp_path / "setup.py").touch()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "fit.py").touch()

    assert _command(tmp_path, "jobs/fit.py") == [sys.executable, "-m", "jobs.fit", "--a", "b c"]
    assert "package_not_installed" in caplog.text


def test_package_is_a_module(tmp_path: Path) -> None:
    """A directory with `__main__`."""
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "__main__.py").touch()

    assert _command(tmp_path, "fit") == [sys.executable, "-m", "fit", "--a", "b c"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.sh", b"echo\n"),
        ("train", b"echo\n"),
        ("train.R", b"#!/usr/bin/env -S sh -e\n"),
        ("train.pl", b"#! /bin/sh\n"),
        ("train.bin", b"\x7fELF\x02"),
    ],
)
def test_executable_is_run_by_the_shell(tmp_path: Path, name: str, content: bytes) -> None:
    """It is made executable, since an archive may have lost that."""
    (tmp_path / name).write_bytes(content)

    assert _command(tmp_path, name) == [*SHELL, f"./{name}", "--a", "b c"]
    assert (tmp_path / name).stat().st_mode & 0o111 == 0o111


def test_command_on_the_path(tmp_path: Path) -> None:
    """An interpreter with arguments of its own."""
    assert _command(tmp_path, "sh -e 'my file.R'") == ["sh", "-e", "my file.R", "--a", "b c"]


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("other.py", r"the sources hold no such file; they hold: a\.R, dos\.sh, env"),
        ("a.R", r"begins with the line of its interpreter.*'Rscript a\.R'"),
        ("dos.sh", "its lines end as on Windows"),
        ("Rscript-of-nowhere a.R", "this image has no program 'Rscript-of-nowhere'"),
        ("it's", "the sources hold no such file"),
        ("env.R", "this image has no program 'Rscript-of-nowhere'; install it in an image"),
        ("full.R", "this image has no program '/nowhere/Rscript'"),
    ],
)
def test_script_that_cannot_run_is_refused(tmp_path: Path, program: str, problem: str) -> None:
    """Before anything is started (C-104)."""
    (tmp_path / "a.R").write_text("x <- 1\n")
    (tmp_path / "env.R").write_text("#!/usr/bin/env Rscript-of-nowhere\n")
    (tmp_path / "full.R").write_text("#!/nowhere/Rscript --vanilla\n")
    (tmp_path / "dos.sh").write_bytes(b"#!/bin/sh\r\necho\r\n")

    with pytest.raises(JobConfigError, match=problem) as caught:
        _command(tmp_path, program)

    assert f"variable X={program!r}" in caught.value.message


def test_empty_sources(tmp_path: Path) -> None:
    """A long list is cut."""
    with pytest.raises(JobConfigError, match="they hold: nothing"):
        _command(tmp_path, "train.py")
    for index in range(12):
        (tmp_path / f"{index:02}").touch()
    with pytest.raises(JobConfigError, match="09, and 2 more"):
        _command(tmp_path, "train.py")
