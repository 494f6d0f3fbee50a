"""A job that was stopped or killed and started again ends as the one that was not."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from tests.unit.train.conftest import Tree, as_csv
from train import job
from train.metric_lines import Recorder

N_ROUNDS = 12
Interrupt = Callable[[int], None]


@pytest.fixture
def make_tree(tmp_path: Path, records: np.ndarray) -> Callable[[str], Tree]:
    """Trees with the same data, that ask for checkpoints."""

    def make(name: str) -> Tree:
        tree = Tree(tmp_path / name)
        tree.channel("train", {"part-0.csv": as_csv(records[:400])})
        tree.channel("validation", {"part-0.csv": as_csv(records[400:])})
        tree.configure("checkpointconfig.json", {"S3Uri": "s3://bucket/prefix"})
        return tree

    return make


@pytest.fixture
def sigterm_handler() -> Iterator[None]:
    """Restore the SIGTERM handler of pytest."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _run(tree: Tree, **environment: str) -> int:
    return job.main(tree.environ | {"BYOA_CHECKPOINT_SECONDS": "0"} | environment)


def _run_until(tree: Tree, n_rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the process while it reports a round, as kill -9 does: before it can save anything."""
    report = Recorder.report

    def die(self: Recorder, iteration: int, scores: Any) -> None:
        if iteration == n_rounds:
            raise ConnectionAbortedError("the machine is gone")
        report(self, iteration, scores)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", die)
        assert _run(tree) == 1
    (tree.root / "output" / "failure").unlink()
    assert tree.model_files == []


def _model(tree: Tree) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tree.root / "model").iterdir()}


def _history(tree: Tree) -> Any:
    newest = max((tree.root / "checkpoints").glob("checkpoint-*"))
    return json.loads(newest.read_bytes().split(b"\n", 2)[1])["history"]


KINDS: list[dict[str, str]] = [
    {},
    {"objective": "binary:logistic", "eval_metric": "logloss,auc,f1"},
    {"objective": "binary:hinge"},
    {"objective": "multi:softprob", "num_class": "2", "subsample": "0.7"},
    {"objective": "reg:absoluteerror"},
    {"objective": "count:poisson"},
    {"subsample": "0.6", "seed": "7"},
    {"colsample_bytree": "0.5"},
    {"colsample_bylevel": "0.5", "colsample_bynode": "0.5", "subsample": "0.5"},
    {"num_parallel_tree": "3", "subsample": "0.5", "colsample_bynode": "0.5"},
    {"tree_method": "exact", "subsample": "0.5", "colsample_bytree": "0.5"},
    {"tree_method": "approx", "subsample": "0.5", "colsample_bylevel": "0.5"},
    {"updater": "grow_colmaker,prune", "subsample": "0.5", "colsample_bytree": "0.5"},
    {"tree_method": "approx", "subsample": "0.5", "objective": "binary:logistic"},
    {"updater": "grow_histmaker", "subsample": "0.5", "colsample_bytree": "0.5"},
    {"grow_policy": "lossguide", "max_leaves": "8", "sampling_method": "uniform"},
    {"booster": "dart", "rate_drop": "0.3"},
    {"booster": "dart", "rate_drop": "0.3", "one_drop": "1", "sample_type": "weighted"},
    {"booster": "dart", "rate_drop": "0.3", "subsample": "0.5", "colsample_bynode": "0.5"},
    {"booster": "gblinear", "updater": "coord_descent"},
    {"booster": "gblinear", "updater": "coord_descent", "subsample": "0.5"},
    {"base_score": "0.3", "max_delta_step": "1", "gamma": "1"},
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # XGBoost's advice on old parameters
@pytest.mark.parametrize("given", KINDS, ids=[" ".join(kind.values()) or "plain" for kind in KINDS])
def test_resumed_job_leaves_the_very_same_model(
    make_tree: Callable[[str], Tree], given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost twice, nothing but checkpoints left, and every byte is the same (C-032, C-033)."""
    unbroken, broken = make_tree("unbroken"), make_tree("broken")
    for tree in (unbroken, broken):
        tree.hyperparameters(**{"num_round": str(N_ROUNDS)} | given)
    assert _run(unbroken) == 0, unbroken.failure

    _run_until(broken, 1, monkeypatch)
    _run_until(broken, 8, monkeypatch)
    assert _run(broken) == 0, broken.failure

    assert _model(broken) == _model(unbroken)
    assert _history(broken) == _history(unbroken)
    assert len(_history(broken)) == N_ROUNDS


def test_resumed_job_on_disk_leaves_the_very_same_model(
    make_tree: Callable[[str], Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is short before the interruption or after it (C-032)."""
    unbroken, broken = make_tree("unbroken"), make_tree("broken")
    for tree in (unbroken, broken):
        tree.hyperparameters(num_round="9", subsample="0.5", colsample_bynode="0.5")
    assert _run(unbroken) == 0, unbroken.failure

    with monkeypatch.context() as patch:
        patch.setattr("container.algorithms.xgboost.training.matrices._USABLE_SHARE", -1.0)
        _run_until(broken, 3, monkeypatch)
    _run_until(broken, 6, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("container.algorithms.xgboost.training.matrices._USABLE_SHARE", -1.0)
        assert _run(broken) == 0, broken.failure

    assert _model(broken) == _model(unbroken)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
@pytest.mark.parametrize("metric", ["logloss", "f1"])
def test_resumed_job_stops_early_where_the_unbroken_one_does(
    make_tree: Callable[[str], Tree],
    booster: str,
    metric: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of the rounds that were not better, and after it had stopped (C-032)."""
    unbroken, broken = make_tree("unbroken"), make_tree("broken")
    given = {"num_round": "300", "objective": "binary:logistic", "eta": "0.7", "booster": booster}
    given |= {"eval_metric": metric, "early_stopping_rounds": "6"}
    if booster == "gblinear":
        given |= {"updater": "coord_descent", "eta": "1"}
    for tree in (unbroken, broken):
        tree.hyperparameters(**given)
    assert _run(unbroken) == 0, unbroken.failure
    n_rounds = len(_history(unbroken))
    assert 7 < n_rounds < 300

    _run_until(broken, n_rounds - 3, monkeypatch)
    assert _run(broken) == 0, broken.failure

    assert _model(broken) == _model(unbroken)
    assert _history(broken) == _history(unbroken)
    (broken.root / "model" / "xgboost-model").unlink()
    assert _run(broken) == 0, broken.failure
    assert _model(broken) == _model(unbroken)


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_early_stopped_model_scores_what_its_best_round_scored(
    make_tree: Callable[[str], Tree],
    records: np.ndarray,
    booster: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also for boosters whose later rounds change the earlier ones, which cannot be cut; the log
    says so."""
    tree = make_tree("tree")
    given = {"num_round": "300", "objective": "reg:squarederror", "early_stopping_rounds": "4"}
    if booster == "gblinear":  # goes too far at once, and comes back
        given |= {"updater": "coord_descent", "eta": "1", "lambda": "0"}
    else:
        given |= {"eta": "0.9"} | ({"rate_drop": "0.2"} if booster == "dart" else {})
    tree.hyperparameters(booster=booster, **given)

    assert _run(tree) == 0, tree.failure

    output = capsys.readouterr().out
    assert ("best_round_is_kept_as_it_was" in output) == (booster != "gbtree")
    scores = [entry["validation-rmse"] for entry in _history(tree)]
    content = (tree.root / "model" / "xgboost-model").read_bytes()
    booster_ = xgboost.Booster(model_file=bytearray(content))
    rows = records[400:].astype(np.float32)
    predicted = booster_.predict(xgboost.DMatrix(rows[:, 1:]))
    assert np.sqrt(np.mean((predicted - rows[:, 0]) ** 2)) == pytest.approx(min(scores), rel=1e-5)
    assert booster_.num_boosted_rounds() == scores.index(min(scores)) + 1 < len(scores)
    assert booster_.attr("best_iteration") == str(scores.index(min(scores)))


def test_job_without_checkpoints_draws_as_xgboost_itself(
    make_tree: Callable[[str], Tree], records: np.ndarray
) -> None:
    """Seeds are only set round by round where a job may have to be resumed."""
    tree = make_tree("tree")
    (tree.root / "input" / "config" / "checkpointconfig.json").unlink()
    tree.hyperparameters(num_round="5", subsample="0.5", colsample_bynode="0.5", seed="3")

    assert _run(tree) == 0, tree.failure

    rows = records.astype(np.float32)
    parameters = {"subsample": 0.5, "colsample_bynode": 0.5, "seed": 3}
    expected = xgboost.train(parameters, xgboost.DMatrix(rows[:400, 1:], rows[:400, 0]), 5)
    content = (tree.root / "model" / "xgboost-model").read_bytes()
    held_out = xgboost.DMatrix(rows[400:, 1:])
    np.testing.assert_array_equal(
        xgboost.Booster(model_file=bytearray(content)).predict(held_out),
        expected.predict(held_out),
    )
    assert not (tree.root / "checkpoints").exists()


def test_more_rounds_may_be_asked_for_later(make_tree: Callable[[str], Tree]) -> None:
    """The checkpoint of a finished job is a start for more of the same."""
    longer, extended = make_tree("longer"), make_tree("extended")
    longer.hyperparameters(num_round="9")
    assert _run(longer) == 0
    extended.hyperparameters(num_round="4")
    assert _run(extended) == 0

    extended.hyperparameters(num_round="9")
    assert _run(extended) == 0

    assert _model(extended) == _model(longer)


def _checkpoints(tree: Tree) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tree.root / "checkpoints").iterdir()}


def _rounds_printed(output: str) -> int:
    return sum(line.startswith("[") for line in output.splitlines())


FEWER = [
    *KINDS,
    {"objective": "reg:quantileerror", "quantile_alpha": "[0.1,0.9]"},
    {"objective": "multi:softprob", "num_class": "2", "multi_strategy": "multi_output_tree"},
    {"eval_metric": "mae", "early_stopping_rounds": "50"},
    {"eval_metric": "mae", "early_stopping_rounds": "2", "eta": "1"},
    {"eval_metric": "mae", "early_stopping_rounds": "50", "booster": "dart", "rate_drop": "0.5"},
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("given", FEWER, ids=[" ".join(kind.values()) or "plain" for kind in FEWER])
def test_fewer_rounds_than_the_checkpoints_leave_them_alone(
    make_tree: Callable[[str], Tree], given: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The model is that of a job that never made more rounds; it is cut from the later ones where
    those have changed nothing. C-105."""
    fewer, fresh = make_tree("fewer"), make_tree("fresh")
    fewer.hyperparameters(**{"num_round": "12"} | given)
    assert _run(fewer) == 0, fewer.failure
    later = _checkpoints(fewer)
    for tree in (fewer, fresh):
        tree.hyperparameters(**{"num_round": "7"} | given)
    assert _run(fresh) == 0, fresh.failure
    capsys.readouterr()

    assert _run(fewer) == 0, fewer.failure

    output = capsys.readouterr().out
    assert _model(fewer) == _model(fresh)
    assert {name: _checkpoints(fewer).get(name) for name in later} == later
    past = [name for name in later if int(name[-8:]) > 7]
    assert all(f'"checkpoint_left_alone", "checkpoint": "{name}"' in output for name in past)
    is_cuttable = given.get("booster", "gbtree") == "gbtree"
    assert _rounds_printed(output) == (0 if is_cuttable or not past else 7)
    results = "output/data/metrics.json"
    assert (fewer.root / results).read_bytes() == (fresh.root / results).read_bytes()
    fewer.hyperparameters(**{"num_round": "12"} | given)
    assert _run(fewer) == 0, fewer.failure
    assert _rounds_printed(capsys.readouterr().out) == 0  # nothing of the longer job was lost


def test_folds_of_fewer_rounds_leave_the_others_alone(make_tree: Callable[[str], Tree]) -> None:
    """Folds of another length are those of another job, whose files are not written over. C-105."""
    tree, fresh = make_tree("tree"), make_tree("fresh")
    tree.hyperparameters(num_round="6", _kfold="3")
    assert _run(tree) == 0, tree.failure
    first, longer = _model(tree), _checkpoints(tree)
    for each in (tree, fresh):
        each.hyperparameters(num_round="4", _kfold="3")
        assert _run(each) == 0, each.failure

    assert _model(tree) == _model(fresh) != first
    assert {name: _checkpoints(tree)[name] for name in longer} == longer
    assert len(_checkpoints(tree)) == 2 * len(longer)
    tree.hyperparameters(num_round="6", _kfold="3")
    assert _run(tree) == 0, tree.failure
    assert _model(tree) == first


def test_other_data_start_from_the_beginning(
    make_tree: Callable[[str], Tree], records: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a warning that names the channel."""
    fresh, changed = make_tree("fresh"), make_tree("changed")
    for tree in (fresh, changed):
        tree.hyperparameters(num_round="3")
    assert _run(changed) == 0
    for tree in (fresh, changed):
        tree.channel("train", {"part-0.csv": as_csv(records[100:400])})
    assert _run(fresh) == 0
    capsys.readouterr()

    assert _run(changed) == 0

    assert "another job made it: channel train differ" in capsys.readouterr().out
    assert _model(changed) == _model(fresh)


@pytest.mark.usefixtures("sigterm_handler")
def test_sigterm_saves_a_checkpoint_and_a_model(
    make_tree: Callable[[str], Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where none was due; the next run goes on from there (C-029)."""
    unbroken, broken = make_tree("unbroken"), make_tree("broken")
    for tree in (unbroken, broken):
        tree.hyperparameters(num_round="40")
    assert _run(unbroken) == 0
    report = Recorder.report

    def stop(self: Recorder, iteration: int, scores: Any) -> None:
        report(self, iteration, scores)
        if iteration == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", stop)
        assert _run(broken, BYOA_CHECKPOINT_SECONDS="3600") == 143

    content = (broken.root / "model" / "xgboost-model").read_bytes()
    n_rounds = xgboost.Booster(model_file=bytearray(content)).num_boosted_rounds()
    assert n_rounds == 6
    assert os.listdir(broken.root / "checkpoints") == [f"checkpoint-{n_rounds:08d}"]
    assert _run(broken) == 0
    assert _model(broken) == _model(unbroken)


@pytest.mark.parametrize("local_path", ["/opt/ml/elsewhere", "{root}/elsewhere"])
def test_checkpoints_go_where_the_job_says(
    make_tree: Callable[[str], Tree], local_path: str
) -> None:
    """LocalPath, which in process mode may name the platform's tree (C-031)."""
    tree = make_tree("tree")
    tree.hyperparameters()
    tree.configure("checkpointconfig.json", {"LocalPath": local_path.format(root=tree.root)})

    assert _run(tree) == 0, tree.failure
    assert os.listdir(tree.root / "elsewhere")
    assert not (tree.root / "checkpoints").exists()


@pytest.mark.parametrize("local_path", ["checkpoints", 7, ["/opt/ml/checkpoints"]])
def test_bad_local_path_is_named(make_tree: Callable[[str], Tree], local_path: object) -> None:
    """Before any data is read (C-028)."""
    tree = make_tree("tree")
    tree.hyperparameters()
    tree.configure("checkpointconfig.json", {"LocalPath": local_path})

    assert _run(tree) == 1
    assert "LocalPath must be an absolute path" in tree.failure
