"""`scripts/make_venv.sh` empties no directory but the environment of its own checkout."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_venv.sh"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the script: never this one, whose environment runs the tests."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / "scripts")
    return checkout


def make_venv(checkout: Path) -> str:
    """Run the script, which must fail, and return what it says."""
    done = subprocess.run(
        # Were it to go on, it would find no Python and make no environment.
        [checkout / "scripts" / "make_venv.sh", "no-such-python"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_link_to_an_environment_is_refused_with_the_cure(checkout: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (checkout / ".venv").symlink_to(shared)

    message = make_venv(checkout)

    assert "symbolic link" in message
    assert str(shared) in message
    assert "rm .venv" in message
    assert (shared / "pyvenv.cfg").exists()


def test_link_to_nothing_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv").symlink_to(tmp_path / "gone")

    assert "symbolic link" in make_venv(checkout)
    assert not (tmp_path / "gone").exists()


def test_file_is_refused(checkout: Path) -> None:
    (checkout / ".venv").write_text("notes")

    assert ".venv is a file" in make_venv(checkout)
    assert (checkout / ".venv").read_text() == "notes"


def test_directory_of_something_else_is_refused(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.txt").write_text("all of it")

    assert "something else" in make_venv(checkout)
    assert (checkout / ".venv" / "thesis.txt").exists()


@pytest.mark.parametrize("has_environment", [False, True], ids=["none", "old_environment"])
def test_own_environment_is_made_anew(checkout: Path, *, has_environment: bool) -> None:
    if has_environment:
        (checkout / ".venv").mkdir()
        (checkout / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")

    assert "no 'no-such-python' on PATH" in make_venv(checkout)
