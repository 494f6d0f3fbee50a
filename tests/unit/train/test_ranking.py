"""Ranking: lists of records in every format and mode, against XGBoost called directly."""

import json
import os
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost

from container import manifest
from tests.unit.train.conftest import Tree, as_csv, as_parquet
from train import job
from train.input import record_store
from train.input.parsing import chunks

RANDOM = np.random.default_rng(3)
SIZES = RANDOM.integers(2, 15, 60)
# Query ids neither count up by 1 nor rise throughout: a list has to be in one piece, no more.
QUERY_IDS = np.repeat(RANDOM.permutation(1000)[:60], SIZES)
N = len(QUERY_IDS)
FEATURES = RANDOM.random((N, 6), dtype=np.float32).round(3)
GRADES = (FEATURES[:, 0] * 3 + RANDOM.random(N)).astype(int).clip(0, 3)
RELEVANT = (GRADES > 1).astype(int)
N_TRAIN = int(SIZES[:40].sum())
OBJECTIVES = {"rank:pairwise": GRADES, "rank:ndcg": GRADES, "rank:map": RELEVANT}

Write = Callable[[np.ndarray, slice], bytes]


def _libsvm(labels: np.ndarray, rows: slice, *, first: int = 1) -> bytes:
    return "".join(
        f"{label} qid:{query_id} "
        + " ".join(f"{column}:{cell:.9g}" for column, cell in enumerate(cells, first))
        + "\n"
        for label, query_id, cells in zip(
            labels[rows], QUERY_IDS[rows], FEATURES[rows], strict=True
        )
    ).encode()


def _table(labels: np.ndarray, rows: slice, *, place: int = 1) -> np.ndarray:
    table = np.column_stack([labels, FEATURES])[rows]
    return np.insert(table, place, QUERY_IDS[rows], axis=1)


FORMATS: dict[str, tuple[str, dict[str, str], Write]] = {
    "libsvm": ("text/libsvm", {}, _libsvm),
    "libsvm-from-0": ("text/libsvm", {}, lambda y, rows: _libsvm(y, rows, first=0)),
    "csv": ("text/csv", {"group_column": "1"}, lambda y, rows: as_csv(_table(y, rows))),
    "csv-last": (
        "text/csv",
        {"group_column": "7"},
        lambda y, rows: as_csv(_table(y, rows, place=7)),
    ),
    "parquet": (
        "application/x-parquet",
        {"group_column": "2"},
        lambda y, rows: as_parquet(_table(y, rows, place=2)),
    ),
    "parquet-by-name": (
        "application/x-parquet",
        {"group_column": "d"},  # of a to h
        lambda y, rows: as_parquet(_table(y, rows, place=3)),
    ),
}


def _lay_out(tree: Tree, mode: str, content_type: str, **channels: list[bytes]) -> None:
    config = {"TrainingInputMode": mode, "ContentType": content_type}
    tree.configure("inputdataconfig.json", dict.fromkeys(channels, config))
    for name, files in channels.items():
        if mode != "Pipe":
            tree.channel(name, {f"part-{index}": file for index, file in enumerate(files)})
            continue
        fifo = tree.channel(".", {}) / f"{name}_0"
        os.mkfifo(fifo)
        threading.Thread(target=fifo.write_bytes, args=(b"".join(files),), daemon=True).start()


def _booster(tree: Tree) -> xgboost.Booster:
    file = tree.root / "model" / "xgboost-model"
    return xgboost.Booster(model_file=bytearray(file.read_bytes()))


def _matrix(labels: np.ndarray, rows: slice = slice(None), **more: Any) -> xgboost.DMatrix:
    order = np.unique(QUERY_IDS[rows], return_index=True)[1]
    number = np.searchsorted(np.sort(order), np.arange(len(QUERY_IDS[rows])), side="right")
    return xgboost.DMatrix(FEATURES[rows], labels[rows], qid=number, **more)


def _direct(parameters: dict[str, Any], labels: np.ndarray, n_rounds: int = 3, **more: Any) -> Any:
    train = _matrix(labels, slice(0, N_TRAIN))
    held_out = _matrix(labels, slice(N_TRAIN, None))
    scores: dict[str, Any] = {}
    booster = xgboost.train(
        parameters,
        train,
        n_rounds,
        evals=[(train, "train"), (held_out, "validation")],
        evals_result=scores,
        verbose_eval=False,
        **more,
    )
    return booster, scores


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces everywhere, so that lists go on in the next one."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(record_store, "_JOINED_BYTES", 3000)


@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe"])
@pytest.mark.parametrize("name", FORMATS)
def test_lists_make_the_model_that_xgboost_trains_directly(
    tree: Tree, mode: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same scores after every round, and the same predictions; a list may go on in the next
    file (C-097).
    """
    content_type, given, write = FORMATS[name]
    metrics = ["ndcg", "ndcg@3", "map@5", "pre@2"]
    tree.hyperparameters(objective="rank:ndcg", eval_metric=",".join(metrics), **given)
    train = [write(RELEVANT, rows) for rows in (slice(0, 101), slice(101, N_TRAIN))]
    validation = [write(RELEVANT, slice(N_TRAIN, None))]
    _lay_out(tree, mode, content_type, train=train, validation=validation)

    assert job.main(tree.environ) == 0, tree.failure

    parameters = {"objective": "rank:ndcg", "eval_metric": metrics}
    direct, scores = _direct(parameters, RELEVANT)
    booster = _booster(tree)
    everything = xgboost.DMatrix(FEATURES)
    assert booster.num_features() == 6
    found = booster.predict(everything, validate_features=False)
    np.testing.assert_allclose(found, direct.predict(everything), atol=1e-6)
    lines = re.findall(r"^\[\d\]\t.*", capsys.readouterr().out, re.M)
    for number, line in enumerate(lines):
        found = {key: float(value) for key, value in re.findall(r"(\S+):([\d.]+)", line)}
        for channel in ("train", "validation"):
            for metric in metrics:
                expected = scores[channel][metric][number]
                assert found[f"{channel}-{metric}"] == pytest.approx(expected, abs=2e-5)


def test_query_id_is_no_name_of_a_feature(tree: Tree) -> None:
    """Nor is the label; the manifest and the model name what requests must have (C-103)."""
    tree.hyperparameters(objective="rank:ndcg", group_column="d")
    tree.channel("train", {"a": as_parquet(_table(GRADES, slice(0, N_TRAIN), place=3))})

    assert job.main(tree.environ) == 0, tree.failure

    described = manifest.read(tree.root / "model")
    assert described is not None
    assert described.model.feature_names == list("bcefgh")
    assert _booster(tree).feature_names == list("bcefgh")


@pytest.mark.parametrize("tree_method", ["hist", "approx", "exact"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_ranking_objective_and_tree_method_has_the_lists(
    tree: Tree, objective: str, tree_method: str
) -> None:
    """Quantised and other matrices (C-097)."""
    labels = OBJECTIVES[objective]
    tree.hyperparameters(objective=objective, tree_method=tree_method)
    tree.channel("train", {"a": _libsvm(labels, slice(0, N_TRAIN))})

    assert job.main(tree.environ) == 0, tree.failure

    direct, _ = _direct({"objective": objective, "tree_method": tree_method}, labels)
    everything = xgboost.DMatrix(FEATURES)
    found = _booster(tree).predict(everything)
    np.testing.assert_allclose(found, direct.predict(everything), atol=1e-6)


def test_matrices_on_disk_have_the_lists(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the lists of matrices on disk (C-097)."""
    form = "container.algorithms.xgboost.training.matrices._Form"
    monkeypatch.setattr(f"{form[:-6]}._form", lambda *_: _on_disk())
    tree.hyperparameters(objective="rank:ndcg")
    tree.channel("train", {"a": _libsvm(GRADES, slice(0, N_TRAIN))})

    assert job.main(tree.environ) == 0, tree.failure

    direct, _ = _direct({"objective": "rank:ndcg"}, GRADES)
    everything = xgboost.DMatrix(FEATURES)
    found = _booster(tree).predict(everything)
    np.testing.assert_allclose(found, direct.predict(everything), atol=1e-6)


def _on_disk() -> Any:
    from container.algorithms.xgboost.training.matrices import _Form

    return _Form.QUANTILES_ON_DISK


def test_early_stopping_watches_the_lists_of_validation(tree: Tree) -> None:
    """It ends after the round in which XGBoost's own ends (C-097)."""
    tree.hyperparameters(
        objective="rank:pairwise", num_round="60", eval_metric="ndcg@3", early_stopping_rounds="3"
    )
    tree.channel("train", {"a": _libsvm(GRADES, slice(0, N_TRAIN))})
    tree.channel("validation", {"a": _libsvm(GRADES, slice(N_TRAIN, None))})

    assert job.main(tree.environ) == 0, tree.failure

    parameters = {"objective": "rank:pairwise", "eval_metric": "ndcg@3"}
    direct, _ = _direct(parameters, GRADES, n_rounds=60, early_stopping_rounds=3)
    assert int(_booster(tree).attr("best_iteration") or -1) == direct.best_iteration < 56


def test_metric_of_lists_has_them_with_any_objective(tree: Tree) -> None:
    """A classifier that is judged by the order within each list (C-097)."""
    tree.hyperparameters(objective="binary:logistic", eval_metric="ndcg,logloss")
    tree.channel("train", {"a": _libsvm(RELEVANT, slice(0, N_TRAIN))})

    assert job.main(tree.environ) == 0, tree.failure

    parameters = {"objective": "binary:logistic", "eval_metric": ["ndcg", "logloss"]}
    _, scores = _direct(parameters, RELEVANT)
    content = json.loads((tree.root / "output" / "data" / "metrics.json").read_bytes())
    assert content["metrics"]["train-ndcg"] == pytest.approx(scores["train"]["ndcg"][-1], abs=2e-5)


@pytest.mark.parametrize(
    ("objective", "lines", "event"),
    [
        ("binary:logistic", b"1 qid:1 1:2\n0 qid:2 1:3\n", "query_ids_ignored"),
        ("rank:ndcg", b"1 1:2\n0 1:3\n", "ranking_without_lists"),
    ],
)
def test_lists_without_ranking_and_ranking_without_lists_are_one_warning(
    tree: Tree, objective: str, lines: bytes, event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job goes on, and says what it makes of the records (C-038)."""
    tree.hyperparameters(objective=objective, eval_metric="auc")
    tree.channel("train", {"a": lines})

    assert job.main(tree.environ) == 0, tree.failure
    warnings = [line for line in capsys.readouterr().out.splitlines() if '"WARNING"' in line]
    assert [json.loads(line)["event"] for line in warnings] == [event]


def test_auc_of_a_classifier_is_over_all_records(tree: Tree) -> None:
    """Lists that nothing looks at do not change it (C-097)."""
    tree.hyperparameters(objective="binary:logistic", eval_metric="auc")
    tree.channel("train", {"a": _libsvm(RELEVANT, slice(0, N_TRAIN))})

    assert job.main(tree.environ) == 0, tree.failure

    matrix = xgboost.DMatrix(FEATURES[:N_TRAIN], RELEVANT[:N_TRAIN])
    line = xgboost.train({"objective": "binary:logistic", "eval_metric": "auc"}, matrix, 3).eval(
        matrix, "train"
    )
    content = json.loads((tree.root / "output" / "data" / "metrics.json").read_bytes())
    assert content["metrics"]["train-auc"] == pytest.approx(float(line.split(":")[-1]), abs=2e-5)


@pytest.mark.parametrize("n_rounds", [3, 6])
def test_job_that_xgboost_cannot_resume_begins_anew(
    tree: Tree, capsys: pytest.CaptureFixture[str], n_rounds: int
) -> None:
    """XGBoost refuses to go on with the biases of positions that it has learned; a job that was
    stopped must not fail for that."""
    tree.configure("checkpointconfig.json", {"S3Uri": "s3://bucket/prefix"})
    tree.channel("train", {"a": _libsvm(GRADES, slice(0, N_TRAIN))})
    given = {"objective": "rank:ndcg", "lambdarank_unbiased": "1"}
    environ = tree.environ | {"BYOA_CHECKPOINT_SECONDS": "0"}
    tree.hyperparameters(**given, num_round="4")
    assert job.main(environ) == 0, tree.failure
    tree.hyperparameters(**given, num_round=str(n_rounds))

    assert job.main(environ) == 0, tree.failure

    assert '"checkpoints_without_effect"' in capsys.readouterr().out
    parameters = {"objective": "rank:ndcg", "lambdarank_unbiased": 1, "nthread": 1}
    direct, _ = _direct(parameters, GRADES, n_rounds=n_rounds)
    features = xgboost.DMatrix(FEATURES)
    np.testing.assert_allclose(
        _booster(tree).predict(features), direct.predict(features), rtol=1e-5, atol=1e-6
    )


def test_folds_keep_lists_together(tree: Tree) -> None:
    """A fold's score is that of whole lists; two channels may use one query id (C-097)."""
    tree.hyperparameters(objective="rank:ndcg", eval_metric="ndcg", _kfold="3")
    tree.channel("train", {"a": _libsvm(GRADES, slice(0, N_TRAIN))})
    tree.channel("validation", {"a": _libsvm(GRADES, slice(0, N_TRAIN))})

    assert job.main(tree.environ) == 0, tree.failure

    files = sorted((tree.root / "model").glob("xgboost-model-*"))
    boosters = [xgboost.Booster(model_file=bytearray(file.read_bytes())) for file in files]
    features = xgboost.DMatrix(np.vstack([FEATURES[:N_TRAIN]] * 2))
    said = np.stack([booster.predict(features) for booster in boosters])
    lines = (tree.root / "output" / "data" / "predictions.csv").read_text().split()
    held_out = np.array([float(line.split(",")[1]) for line in lines])
    fold = np.abs(said - held_out).argmin(axis=0)
    lists = np.cumsum(np.append(0, np.diff(QUERY_IDS[:N_TRAIN]) != 0))
    lists = np.concatenate([lists, lists + lists[-1] + 1])
    of_list = [set(fold[lists == number]) for number in range(lists[-1] + 1)]
    assert all(len(folds) == 1 for folds in of_list)
    scores = json.loads((tree.root / "output" / "data" / "cross_validation.json").read_bytes())
    labels = np.tile(GRADES[:N_TRAIN], 2)
    for number, booster in enumerate(boosters):
        own = fold == number
        matrix = xgboost.DMatrix(features.slice(np.flatnonzero(own)).get_data(), labels[own])
        matrix.set_group(np.unique(lists[own], return_counts=True)[1])
        booster.set_param({"eval_metric": "ndcg"})
        expected = float(booster.eval(matrix).split(":")[-1])
        found = scores["metrics"]["validation-ndcg"]["folds"][number]
        assert found == pytest.approx(expected, abs=2e-5)


def test_more_folds_than_lists_are_refused(tree: Tree) -> None:
    """With both numbers (C-014)."""
    tree.hyperparameters(objective="rank:ndcg", _kfold="3")
    tree.channel("train", {"a": b"1 qid:1 1:2\n0 qid:1 1:3\n1 qid:2 1:3\n0 qid:2 1:4\n"})

    assert job.main(tree.environ) == 1
    assert "'_kfold': asks for 3 folds of 2 lists" in tree.failure


LINE = b"1 qid:3 1:2\n0 qid:3 1:1\n"


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        (
            {"a": LINE * 100 + b"1 qid:4 1:1\n", "b": LINE},
            {},
            "file 'b': line 1: query id 3 comes again after another one; put the records",
        ),
        ({"a": LINE + b"1 qid:4 1:1\n" + LINE}, {}, "file 'a': line 4: query id 3 comes again"),
        ({"a": LINE * 100 + b"1 1:1\n"}, {}, "file 'a': line 201: the record has no query id"),
        ({"a": b"1 1:1\n" + LINE}, {}, "file 'a': line 2: the record has a query id and those"),
        ({"a": LINE, "b": b"1 1:1\n"}, {}, "file 'b': line 1: no query id where file 'a' has some"),
        ({"a": b"1 qid:x 1:1\n"}, {}, "line 1, column 2: the query id must be a whole number"),
        (
            {"a": b"1 1:1 qid:3\n"},
            {},
            "line 1, column 3: token 3 is not a query id right after the label",
        ),
        ({"a": b"1:2 qid:1 1:1\n"}, {}, "there are records with a weight, which ranking cannot"),
        (
            {"a": b"1 1:1\n"},
            {"group_column": "1"},
            "channel 'train' has no query ids, for which the job names a group_column",
        ),
        ({"a": b"1,1.5,2\n"}, {"group_column": "1"}, "line 1, column 2: the query id must be a wh"),
        ({"a": b"1,,2\n"}, {"group_column": "1"}, "line 1, column 2: the query id must be a whole"),
        (
            {"a": b"1,5,2\n0,16777216,1\n"},
            {"group_column": "1"},
            "line 2, column 2: the query id must be a whole number from 0 to 16777215",
        ),
        ({"a": b"1,5,2\n"}, {"group_column": "3"}, "group column is number 3, which must be in 1"),
        ({"a": b"1,5,2\n"}, {"group_column": "qid"}, "group_column='qid' is a name, and the col"),
        ({"a": b"1,5\n"}, {"group_column": "1"}, "no features are left"),
        ({"a": b"1,5,2\n"}, {"group_column": "0"}, "'group_column': is 0, the column of the label"),
        (
            {"a": as_parquet(np.ones((2, 3)))},
            {"group_column": "qid"},
            "group_column='qid' is the name of no columns",
        ),
        (
            {"a": as_parquet(np.ones((2, 3)))},
            {"group_column": "a"},
            "the group column is number 0, which must be in 1 to 2",
        ),
    ],
)
def test_lists_that_are_none_fail_the_job_with_their_place(
    tree: Tree, files: dict[str, bytes], given: dict[str, str], message: str
) -> None:
    """File and line, or the hyperparameter, and the cure (C-027, C-028)."""
    tree.hyperparameters(objective="rank:pairwise", **given)
    tree.channel("train", files)

    assert job.main(tree.environ) == 1
    assert message in tree.failure


def test_validation_without_lists_is_refused(tree: Tree) -> None:
    """It would count as one list (C-028)."""
    tree.hyperparameters(objective="rank:pairwise")
    tree.channel("train", {"a": LINE})
    tree.channel("validation", {"a": b"1 1:1\n"})

    assert job.main(tree.environ) == 1
    assert "channel 'validation' has no query ids where others have some" in tree.failure
