"""Disks that fill up: the job fails, and says why wherever a byte can still be written."""

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from container.opt_ml import OptMl
from tests.unit.train.conftest import Tree, as_csv
from train import job

ROOT = Path(__file__).parents[3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 256 KiB; making one takes the rights of root."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted: {error}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(place: Path) -> None:
    """Take every block that is left."""
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def _run(tree: Tree, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | tree.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _take_every_name(place: Path) -> None:
    """Make files until there is no place for another one, however small."""
    with contextlib.suppress(OSError):
        for number in range(1000):
            (place / f"taken-{number}").touch()


FILLED_WHILE_IMPORTING = """
    import os, sys, types
    import train.supervisor
    def child(environ):
        with open(os.environ["FILLER"], "wb", 0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                os.abort()  # as a library does that cannot write
    sys.modules["train.job"] = types.SimpleNamespace(main=child)
    sys.exit(train.supervisor.main(dict(os.environ)))
"""


def test_disk_that_fills_before_the_job_begins_leaves_a_reason(small_disk: Path) -> None:
    """The supervisor reserves the space before the child imports anything (C-027)."""
    tree = Tree(small_disk / "ml")

    finished = _run(tree, FILLED_WHILE_IMPORTING, FILLER=str(small_disk / "filler"))

    assert finished.returncode == 1, finished.stderr
    assert tree.failure.startswith(f"no space left on a disk ({tree.root}")
    assert "crashed (SIGABRT)" in tree.failure
    assert "VolumeSizeInGB" in tree.failure


def test_full_disk_of_temporary_files_is_not_called_a_fault_of_the_library(
    tree: Tree, small_disk: Path
) -> None:
    """XGBoost aborts when it cannot write its pages (C-028)."""
    filler = str(small_disk / "filler")

    finished = _run(tree, FILLED_WHILE_IMPORTING, FILLER=filler, TMPDIR=str(small_disk))

    assert finished.returncode == 1, finished.stderr
    assert tree.failure.startswith(f"no space left on a disk ({small_disk}), and")


def test_own_leftovers_make_room_for_the_reason(small_disk: Path) -> None:
    """A model that was not put in place by a job that was killed is of no use (C-027)."""
    opt_ml = OptMl(small_disk / "ml")
    staging = opt_ml.model_dir / ".staging-killed"
    staging.mkdir(parents=True)
    opt_ml.failure_file.parent.mkdir()
    (staging / "xgboost-model").write_bytes(bytes(50_000))
    _fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        opt_ml.reserve_failure()

    opt_ml.write_failure("the disk is full")

    assert opt_ml.failure_file.read_text() == "the disk is full\n"
    assert [path.name for path in opt_ml.failure_file.parent.iterdir()] == ["failure"]


def test_reason_that_finds_no_room_is_on_standard_error(small_disk: Path) -> None:
    """The exit code says that the job failed, and the log why (C-027)."""
    tree = Tree(small_disk / "ml")
    tree.hyperparameters(num_round="x")
    (tree.root / "output").mkdir()
    _fill(small_disk)

    program = "import os, sys; from train.supervisor import main; sys.exit(main(os.environ))"
    finished = _run(tree, program)

    assert finished.returncode == 1
    assert tree.failure == ""
    assert "training failed: hyperparameter 'num_round': 'x' is not accepted" in finished.stderr
    assert "failure_file_not_reserved" in finished.stdout


@pytest.mark.parametrize("fill", [_fill, _take_every_name])
def test_model_directory_that_is_full_is_not_called_read_only(
    cancer: Tree, small_disk: Path, fill: Callable[[Path], None]
) -> None:
    """The remedy is a larger volume, not another mount. Nothing half is left (C-028)."""
    (cancer.root / "model").symlink_to(small_disk)
    fill(small_disk)

    assert job.main(cancer.environ) == 1

    assert cancer.failure.startswith("no space left on a disk")
    assert "VolumeSizeInGB" in cancer.failure
    assert not [name for name in cancer.model_files if not name.startswith(("fill", "taken"))]


def test_checkpoint_directory_that_is_full_fails_no_job(
    cancer: Tree, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model matters more; no temporary file is left in the way."""
    cancer.configure("checkpointconfig.json", {"LocalPath": str(small_disk)})
    _fill(small_disk)

    assert job.main(cancer.environ) == 0, cancer.failure

    assert '"checkpoint_not_saved"' in capsys.readouterr().out
    assert os.listdir(small_disk) == ["filler"]


def test_records_that_find_no_room_on_the_disk_are_named(
    cancer: Tree, records: np.ndarray, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job fails with the reason if memory does not suffice either (C-028)."""
    cancer.channel("train", {"part-0.csv": as_csv(np.tile(records, (20, 1)))})
    monkeypatch.setattr("train.input.scratch._SHARE_FOR_RECORDS", 0.0)
    monkeypatch.setattr("train.input.scratch._roomiest", lambda places: small_disk)

    assert job.main(cancer.environ) == 1

    assert cancer.failure.startswith("no space left on a disk")
    assert os.listdir(small_disk) == []
