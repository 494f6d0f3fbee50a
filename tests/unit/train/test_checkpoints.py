"""Checkpoint files by themselves: whole or passed over, bound to one job, few."""

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from container.algorithms.training_contract import Checkpoint
from train import checkpoints
from train.checkpoints import N_KEPT, CheckpointDirectory, Schedule
from train.input import fingerprint
from train.metric_lines import Recorder

FACTS: dict[str, object] = {"hyperparameter eta": 0.3, "hyperparameter max_depth": 6}
DATA = {"train": "abc", "validation": "def"}


def _open(root: Path, **data: str) -> CheckpointDirectory:
    return CheckpointDirectory(root / "checkpoints", DATA | data, Recorder(), Schedule(0))


def _fill(root: Path, n: int) -> None:
    """A job of `n` rounds that saved after each."""
    directory = _open(root)
    directory.resume(FACTS, 100)
    for n_rounds in range(1, n + 1):
        directory.recorder.report(n_rounds - 1, {"train-rmse": 1 / n_rounds})
        directory.save(n_rounds, {"model": b"m" * n_rounds, "best": b"\n\x00"})


def _resume(root: Path, max_rounds: int = 100) -> Checkpoint | None:
    return _open(root).resume(FACTS, max_rounds)


def _names(root: Path) -> list[str]:
    return sorted(os.listdir(root / "checkpoints"))


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_resume_gives_what_was_saved(tmp_path: Path) -> None:
    """Parts byte by byte, scores bit by bit, NaN included."""
    directory = _open(tmp_path)
    directory.resume(FACTS, 100)
    for iteration, score in enumerate((0.1 + 0.2, math.nan, math.inf)):
        directory.recorder.report(iteration, {"train-rmse": score})
    directory.save(3, {"model": bytes(range(256)), "best": b""})

    recorder = Recorder()
    found = CheckpointDirectory(tmp_path / "checkpoints", DATA, recorder, Schedule(0)).resume(
        FACTS, 100
    )

    assert found is not None
    assert found.n_rounds == 3
    assert found.parts == {"model": bytes(range(256)), "best": b""}
    assert [scores["train-rmse"] for scores in found.history] == [
        0.1 + 0.2,
        pytest.approx(math.nan, nan_ok=True),
        math.inf,
    ]
    assert recorder.history == found.history


def test_newest_ones_are_kept_under_names_that_sort(tmp_path: Path) -> None:
    """Numbers of one width, and no more files than it takes to fall back (C-031)."""
    _fill(tmp_path, 12)

    assert _names(tmp_path) == [f"checkpoint-{n:08d}" for n in range(13 - N_KEPT, 13)]


def test_resumed_job_goes_on_forgetting_the_oldest(tmp_path: Path) -> None:
    """Those of the run before count, too."""
    _fill(tmp_path, 5)
    directory = _open(tmp_path)
    directory.resume(FACTS, 100)

    directory.save(6, {"model": b""})

    assert _names(tmp_path) == [f"checkpoint-{n:08d}" for n in range(7 - N_KEPT, 7)]


@pytest.mark.parametrize("kept", [0, 1, 10, 80, 100, 200, -1])
def test_truncated_newest_falls_back_one(tmp_path: Path, kept: int) -> None:
    """Wherever it was cut off, in the digest, the header, or the last part (C-033)."""
    _fill(tmp_path, 5)
    newest = tmp_path / "checkpoints" / "checkpoint-00000005"
    newest.write_bytes(newest.read_bytes()[:kept])

    found = _resume(tmp_path)

    assert found is not None
    assert found.n_rounds == 4


def test_no_single_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    """A model that is not what was saved may crash the process that parses it."""
    _fill(tmp_path, 2)
    newest = tmp_path / "checkpoints" / "checkpoint-00000002"
    content = newest.read_bytes()
    for position in range(len(content)):
        for bit in (0, 5):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            newest.write_bytes(flipped)
            found = _resume(tmp_path)
            assert found is not None
            assert found.n_rounds == 1, f"byte {position}, bit {bit}"


def test_foreign_files_are_ignored_and_left_alone(tmp_path: Path) -> None:
    """Of other systems, of a writer that was killed, of other names."""
    _fill(tmp_path, 2)
    foreign = ["checkpoint-99", "checkpoint-00000099.bak", "xgboost-checkpoint.99", ".DS_Store"]
    for name in [*foreign, "checkpoint-00000098"]:
        (tmp_path / "checkpoints" / name).write_bytes(b"\x80\x04K*.")
    (tmp_path / "checkpoints" / "checkpoint-00000097").mkdir()
    (tmp_path / "checkpoints" / ".checkpoint-00000003.tmp").write_bytes(b"half")

    found = _resume(tmp_path)

    assert found is not None
    assert found.n_rounds == 2
    assert set(_names(tmp_path)) >= {*foreign, "checkpoint-00000098", "checkpoint-00000097"}
    assert ".checkpoint-00000003.tmp" not in _names(tmp_path)


@pytest.mark.parametrize(
    ("facts", "data", "named"),
    [
        (FACTS | {"hyperparameter eta": 0.1}, {}, "hyperparameter eta differ"),
        ({"hyperparameter eta": 0.3}, {}, "hyperparameter max_depth differ"),
        (FACTS | {"hyperparameter seed": 1}, {}, "hyperparameter seed differ"),
        (FACTS, {"validation": "other"}, "channel validation differ"),
        (FACTS | {"hyperparameter eta": 1}, {"train": "x"}, "channel train, hyperparameter eta"),
    ],
)
def test_checkpoint_of_another_job_is_ignored_by_name(
    tmp_path: Path,
    facts: dict[str, object],
    data: dict[str, str],
    named: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names what differs; values are in neither the log nor the file."""
    _fill(tmp_path, 1)

    found = _open(tmp_path, **data).resume(facts, 100)

    assert found is None
    (warning,) = _warnings(caplog)
    assert warning.getMessage() == "checkpoint_ignored"
    assert named in warning.__dict__["reason"]
    assert b"0.3" not in (tmp_path / "checkpoints" / "checkpoint-00000001").read_bytes()


def test_checkpoints_of_another_job_are_not_deleted(tmp_path: Path) -> None:
    """Deleting one here would delete it in S3."""
    _fill(tmp_path, 30)
    other = _open(tmp_path)
    other.resume({}, 100)

    for n_rounds in range(1, 6):
        other.save(n_rounds, {"model": b""})

    kept = [*range(6 - N_KEPT, 6), *range(31 - N_KEPT, 31)]
    assert _names(tmp_path) == [f"checkpoint-{n:08d}" for n in kept]


def test_checkpoint_with_more_rounds_than_asked_for_is_ignored(tmp_path: Path) -> None:
    """num_round may differ between two runs, upwards without loss."""
    _fill(tmp_path, 5)

    fewer, none = _resume(tmp_path, max_rounds=4), _resume(tmp_path, max_rounds=2)

    assert fewer is not None
    assert fewer.n_rounds == 4
    assert none is None


def test_checkpoints_with_more_rounds_are_kept(tmp_path: Path) -> None:
    """A job with fewer rounds deletes the oldest of its own, not what is past its end. C-105."""
    _fill(tmp_path, 30)
    directory = _open(tmp_path)
    directory.resume(FACTS, 20)

    for n_rounds in range(1, 21):
        directory.save(n_rounds, {"model": b""})

    kept = [*range(21 - N_KEPT, 21), *range(31 - N_KEPT, 31)]
    assert _names(tmp_path) == [f"checkpoint-{n:08d}" for n in kept]


def test_nearest_later_checkpoint_is_shortened(tmp_path: Path) -> None:
    """The algorithm cuts its parts, the history ends with the last round. C-105."""
    _fill(tmp_path, 5)
    directory = _open(tmp_path)

    found = directory.resume(FACTS, 2, lambda parts, n: {"model": parts["model"][:n]})

    assert found is not None
    assert found.n_rounds == 2
    assert found.parts == {"model": b"mm"}
    assert found.history == directory.recorder.history == [{"train-rmse": 1}, {"train-rmse": 0.5}]


def test_file_of_another_job_is_not_overwritten(tmp_path: Path) -> None:
    """Two jobs in one directory keep their files, and each finds its own again. C-105."""
    _fill(tmp_path, 3)
    other = _open(tmp_path)
    other.resume({}, 100)
    for n_rounds in range(1, 5):
        other.save(n_rounds, {"model": b"other"})

    names = _names(tmp_path)
    found, found_other = _resume(tmp_path), _open(tmp_path).resume({}, 100)

    assert len(names) == 2 * N_KEPT
    assert found is not None
    assert found.parts["model"] == b"mmm"
    assert found_other is not None
    assert found_other.n_rounds == 4


def test_directory_that_cannot_be_written_does_not_end_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model matters more."""
    (tmp_path / "checkpoints").write_text("a file where the directory should be")
    directory = _open(tmp_path)

    assert directory.resume(FACTS, 100) is None
    directory.save(1, {"model": b"m"})

    assert [record.getMessage() for record in _warnings(caplog)] == ["checkpoint_not_saved"]


def test_temporary_file_that_cannot_be_removed_does_not_end_the_job(tmp_path: Path) -> None:
    """A directory of that name, or a mount that can only be read."""
    _fill(tmp_path, 1)
    (tmp_path / "checkpoints" / ".checkpoint-00000000.tmp").mkdir()
    (tmp_path / "checkpoints" / ".checkpoint-00000002.tmp").write_bytes(b"half")

    found = _resume(tmp_path)

    assert found is not None
    assert _names(tmp_path) == [".checkpoint-00000000.tmp", "checkpoint-00000001"]


def test_schedule_spaces_checkpoints_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the end of one to the start of the next; never more than a twentieth of the time."""
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    directory = CheckpointDirectory(tmp_path, DATA, Recorder(), Schedule(60))
    now += 59
    assert not directory.is_due()
    now += 1
    assert directory.is_due()

    flush = checkpoints.flush_to_disk

    def flush_slowly(path: Path) -> None:
        nonlocal now
        now += 5
        flush(path)

    monkeypatch.setattr(checkpoints, "flush_to_disk", flush_slowly)
    directory.save(1, {"model": b"m"})  # takes 10 s
    now += 199
    assert not directory.is_due()
    now += 1
    assert directory.is_due()


def test_schedule_makes_one_before_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is ready before the platform stops the job, with time for a round."""
    due = _due_times(tmp_path, monkeypatch, round_ends=range(10, 300, 10))

    assert due == [250, 260, 270]  # from two rounds and half a minute before the end to that


@pytest.mark.parametrize(
    ("round_ends", "expected"),
    [
        ([140, *range(141, 300)], [268, 269, 270]),  # 139 s of reading are no round
        ([1, 101, *range(102, 300)], [101, 268, 269, 270]),  # one that was slow
    ],
)
def test_slow_round_does_not_use_up_the_last_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    round_ends: Sequence[int],
    expected: list[int],
) -> None:
    """A checkpoint saved long before the end is not the last one."""
    assert _due_times(tmp_path, monkeypatch, round_ends) == expected


def _due_times(
    directory: Path, monkeypatch: pytest.MonkeyPatch, round_ends: Sequence[int]
) -> list[int]:
    """Return the times of checkpoints in a job that begins at 0 and is stopped at 300."""
    now = 0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    schedule = Schedule(interval_seconds=3600, end_time=300.0)
    made = CheckpointDirectory(directory, DATA, Recorder(), schedule)
    due = []
    for now in round_ends:
        if made.is_due():
            due.append(now)
            made.save(1, {"model": b"m"})
    return due


def test_fingerprint_detects_other_data(tmp_path: Path) -> None:
    """Other names, sizes, beginnings or ends; the time of a file says nothing."""

    def of(**files: bytes) -> str:
        directory = tmp_path / "channel"
        directory.mkdir(exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        for name, content in files.items():
            (directory / name).write_bytes(content)
            os.utime(directory / name, (len(seen), len(seen)))
        return fingerprint.of_files(directory, sorted(directory.iterdir()))

    seen: list[str] = []
    middle = b"1,2\n" * 5000
    for files in (
        {"a": b"1,2\n" + middle + b"3,4\n"},
        {"a": b"1,3\n" + middle + b"3,4\n"},
        {"a": b"1,2\n" + middle + b"3,5\n"},
        {"a": b"1,2\n" + middle + b"\n3,4\n"},
        {"b": b"1,2\n" + middle + b"3,4\n"},
        {"a": b"1,2\n" + middle + b"3,4\n", "b": b"1"},
        {"a": b"1"},
        {"a": b""},
    ):
        seen += [of(**files)]
        assert of(**files) == seen[-1]

    assert len(set(seen)) == len(seen)


def test_fingerprint_of_hosts_tells_which_of_them_has_what() -> None:
    """One host with other data is enough, and so are two that have changed places."""
    seen = [["a"], ["a", "b"], ["b", "a"], ["a", "c"], ["a", ""], ["ab"]]

    assert len({fingerprint.of_hosts(hosts) for hosts in seen}) == len(seen)


def test_header_is_one_line_of_json(tmp_path: Path) -> None:
    """Anybody can look into a checkpoint with `head -n 2`."""
    _fill(tmp_path, 2)

    lines = (tmp_path / "checkpoints" / "checkpoint-00000002").read_bytes().split(b"\n")

    header = json.loads(lines[1])
    assert lines[0].startswith(b"byoa-checkpoint-1 ")
    assert header["n_rounds"] == 2
    assert header["parts"] == {"model": 2, "best": 2}
