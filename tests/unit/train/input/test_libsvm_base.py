"""libsvm that counts from 1: one base for a job, whatever its channels, modes and hosts."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost

from container import manifest
from container.errors import ChannelError
from tests.unit.train.conftest import Tree, as_csv, as_libsvm
from train import job
from train.input import libsvm_base
from train.input.libsvm_base import LibsvmBase
from train.metric_lines import Recorder

N_FEATURES = 8


@pytest.fixture
def rows(records: np.ndarray) -> np.ndarray:
    """Label and eight features, float64 [569, 9]; none is 0."""
    return records[:, : N_FEATURES + 1] + [0, *[1] * N_FEATURES]


def _from_1(rows: np.ndarray) -> bytes:
    return as_libsvm(rows, first=1)


def _boosters(tree: Tree) -> list[xgboost.Booster]:
    files = sorted((tree.root / "model").glob("xgboost-model*"))
    return [xgboost.Booster(model_file=bytearray(file.read_bytes())) for file in files]


def _base(tree: Tree) -> int | None:
    described = manifest.read(tree.root / "model")
    assert described is not None
    return described.libsvm_base


def _run(tree: Tree) -> None:
    assert job.main(tree.environ) == 0, tree.failure


@pytest.mark.parametrize("tree_method", ["hist", "exact"])
def test_job_whose_columns_count_from_1_trains_the_model_of_their_features(
    tree: Tree, rows: np.ndarray, tree_method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many features as CSV has, XGBoost's own trees, and the base in the log (C-101)."""
    tree.hyperparameters(tree_method=tree_method)
    tree.channel("train", {"a.libsvm": _from_1(rows)})

    _run(tree)

    matrix = xgboost.DMatrix(rows[:, 1:].astype(np.float32), rows[:, 0])
    direct = xgboost.train({"tree_method": tree_method}, matrix, 3)
    (booster,) = _boosters(tree)
    assert booster.num_features() == N_FEATURES
    np.testing.assert_allclose(booster.predict(matrix), direct.predict(matrix), atol=1e-6)
    assert _base(tree) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "libsvm_base_decided" in line]
    assert [json.loads(line)["libsvm_base"] for line in lines] == [1]


@pytest.mark.parametrize(
    ("train", "validation", "base"),
    [
        ([b"1 1:2 2:3\n", b"0 2:1\n"], [b"1 1:5\n"], 1),
        ([b"1 1:2 2:3\n", b"0 2:1\n"], [b"1 0:5\n"], 0),
        ([b"1 1:2 2:3\n", b"0 0:1\n"], [b"1 1:5\n"], 0),
        ([b"1 0:2 2:3\n", b"0 2:1\n"], [b"1 1:5\n"], 0),
        ([b"1 1:2 2:3\n", b"0 2:\n"], [b"1\n"], 1),
        ([b"1 1:2 2:3\n", b"0 0: 2:1\n"], [b"1\n"], 0),
    ],
)
@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe"])
def test_one_column_0_anywhere_makes_all_count_from_0(
    tree: Tree,
    mode: str,
    train: list[bytes],
    validation: list[bytes],
    base: int,
    *,
    is_declared: bool,
) -> None:
    """All records of all files and channels are looked at, in every mode (C-101)."""
    tree.hyperparameters()
    config = {"TrainingInputMode": mode} | ({"ContentType": "libsvm"} if is_declared else {})
    tree.configure("inputdataconfig.json", {"train": config, "validation": config})
    for name, files in (("train", train), ("validation", validation)):
        if not is_declared:  # a record without a cell may be CSV
            files = [b"1 2:1\n", *files]
        _lay_out(tree, name, files, mode)

    _run(tree)

    assert [booster.num_features() for booster in _boosters(tree)] == [3 - base]
    assert _base(tree) == base


def _lay_out(tree: Tree, name: str, files: list[bytes], mode: str) -> None:
    if mode != "Pipe":
        tree.channel(name, {f"part-{index}": file for index, file in enumerate(files)})
        return
    fifo = tree.channel(".", {}) / f"{name}_0"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_bytes, args=(b"".join(files),), daemon=True).start()


def test_validation_of_another_format_has_the_same_features(tree: Tree, rows: np.ndarray) -> None:
    """A model of eight features is evaluated on eight CSV columns (C-101)."""
    tree.hyperparameters()
    tree.channel("train", {"a": _from_1(rows[:400])})
    tree.channel("validation", {"a": as_csv(rows[400:])})

    _run(tree)

    scores = json.loads((tree.root / "output" / "data" / "metrics.json").read_bytes())
    booster, held_out = _boosters(tree)[0], rows[400:].astype(np.float32)
    error = booster.predict(xgboost.DMatrix(held_out[:, 1:])) - held_out[:, 0]
    assert scores["metrics"]["validation-rmse"] == pytest.approx(
        np.sqrt(np.mean(error**2)), rel=1e-4
    )


@pytest.mark.parametrize(
    ("write", "base"), [(as_csv, None), (as_libsvm, 0)], ids=["csv", "libsvm-from-0"]
)
def test_manifest_says_what_the_records_counted_from(
    tree: Tree, rows: np.ndarray, write: Callable[[np.ndarray], bytes], base: int | None
) -> None:
    """0 is a base as well; records of another format have none (C-101)."""
    tree.hyperparameters()
    tree.channel("train", {"a": write(rows)})

    _run(tree)

    assert _base(tree) == base
    assert _boosters(tree)[0].num_features() == N_FEATURES


def test_folds_have_the_base_of_all_records(tree: Tree, rows: np.ndarray) -> None:
    """A fold without column 0, or without column 1, is no reason to shift (C-101)."""
    tree.hyperparameters(_kfold="3", objective="binary:logistic")
    tree.channel("train", {"a": _from_1(rows[:400])})
    tree.channel("validation", {"a": b"1 8:1\n0 8:2\n"})

    _run(tree)

    assert [booster.num_features() for booster in _boosters(tree)] == [N_FEATURES] * 3
    assert _base(tree) == 1


def test_records_on_disk_are_shifted_as_those_in_memory(
    tree: Tree, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model does not depend on where the records are kept (C-101)."""
    tree.hyperparameters()
    tree.channel("train", {"a": _from_1(rows)})
    _run(tree)
    in_memory = (tree.root / "model" / "xgboost-model").read_bytes()

    monkeypatch.setattr("train.input.scratch.Scratch.keep_in_memory", lambda self, n_bytes: False)
    _run(tree)

    assert (tree.root / "model" / "xgboost-model").read_bytes() == in_memory


@pytest.fixture
def interrupted(tree: Tree, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A job that was lost in its third round, with a checkpoint of two."""
    tree.hyperparameters(num_round="4")
    tree.channel("train", {"a": _from_1(rows)})
    tree.configure("checkpointconfig.json", {"S3Uri": "s3://bucket/prefix"})
    report = Recorder.report

    def die(self: Recorder, iteration: int, scores: Any) -> None:
        if iteration == 2:
            raise ConnectionAbortedError("the machine is gone")
        report(self, iteration, scores)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", die)
        assert job.main(tree.environ | {"BYOA_CHECKPOINT_SECONDS": "0"}) == 1
    (tree.root / "output" / "failure").unlink()
    return tree


def test_resumed_job_has_the_base_of_the_first_run(interrupted: Tree, rows: np.ndarray) -> None:
    """The rounds before and after the interruption are of the same columns (C-101, C-032)."""
    _run(interrupted)

    matrix = xgboost.DMatrix(rows[:, 1:].astype(np.float32), rows[:, 0])
    direct = xgboost.train({}, matrix, 4)
    (booster,) = _boosters(interrupted)
    np.testing.assert_allclose(booster.predict(matrix), direct.predict(matrix), atol=1e-6)
    assert _base(interrupted) == 1


def test_checkpoint_of_the_other_base_is_refused(
    interrupted: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions trained on nine columns, and rounds of both would be no model (C-101)."""
    monkeypatch.setattr("train.checkpoints.LibsvmBase.restore", _restore_as_of_old)

    assert job.main(interrupted.environ) == 1
    assert "libsvm columns count from 1, and from 0 in the job that made the ch" in (
        interrupted.failure
    )


_restore = LibsvmBase.restore


def _restore_as_of_old(self: LibsvmBase, value: libsvm_base.Base | None) -> None:
    assert value == 1
    _restore(self, 0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([1, None, 3], 1),
        ([1, 0, 3], 0),
        ([2, None], 1),
        ([None, None], None),
    ],
)
def test_hosts_agree_on_one_base(told: list[int | None], expected: int | None) -> None:
    """A 0 on any host counts; a host without libsvm records has no say (C-101)."""
    base = LibsvmBase(lambda own: [own, *told[1:]])
    base.channels.append(_Channel(told[0]))

    base.decide()

    assert base.value == expected


class _Channel:
    may_be_libsvm = True

    def __init__(self, lowest_column: int | None) -> None:
        self.lowest_column = lowest_column

    def load(self) -> None:
        """Nothing is left to read."""


def test_host_that_reads_other_formats_takes_part_in_the_decision() -> None:
    """The hosts exchange one value each, or they would wait for each other (C-101)."""
    asked: list[object] = []

    def gather(own: object) -> list[object]:
        asked.append(own)
        return [own, 1]

    base = LibsvmBase(gather)
    for _ in range(2):
        base.decide()

    assert (asked, base.value) == ([None], 1)


def test_checkpoint_that_comes_after_the_records_is_compared_too() -> None:
    """An algorithm may read first (C-101)."""
    base = LibsvmBase()
    base.channels.append(_Channel(1))
    base.decide()

    base.restore(1)
    with pytest.raises(ChannelError, match="remove the checkpoints"):
        base.restore(None)
