"""LightGBM: from a job to a served model, equal to LightGBM called directly; and resumed jobs."""

import json
import sys
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pyarrow.parquet
import pytest

from container.settings import Settings
from serve import loading
from serve.invocation import Invocation, ModelServable
from tests.unit.train.conftest import Tree, as_csv, as_libsvm
from train import job
from train.metric_lines import Recorder

N_TRAIN = 400
Train = Callable[..., int]


@pytest.fixture
def train(tree: Tree, records: np.ndarray) -> Train:
    """Train on the breast cancer set; checkpoints after every round."""
    tree.channel("train", {"a.csv": as_csv(records[:N_TRAIN])})
    tree.channel("validation", {"a.csv": as_csv(records[N_TRAIN:])})
    tree.configure("checkpointconfig.json", {"S3Uri": "s3://bucket/prefix"})

    def train(**options: str) -> int:
        given = {"algorithm": "lightgbm", "objective": "binary", "num_boost_round": "8"}
        given["num_threads"] = "1"  # more of them wait in loops where other programs run
        tree.configure("hyperparameters.json", given | options)
        return job.main(tree.environ | {"BYOA_CHECKPOINT_SECONDS": "0"})

    return train


def _text(tree: Tree) -> bytes:
    return (tree.root / "model" / "lightgbm-model.txt").read_bytes()


def _served(tree: Tree) -> ModelServable:
    servable = loading.inspect(tree.root / "model", Settings()).load()
    assert isinstance(servable, ModelServable)
    return servable


def _run_until(n_rounds: int, train: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the process while it reports a round, as kill -9 does: before it can save anything."""
    report = Recorder.report

    def die(self: Recorder, iteration: int, scores: Any) -> None:
        if iteration == n_rounds:
            raise ConnectionAbortedError("the machine is gone")
        report(self, iteration, scores)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", die)
        assert train() == 1


def test_model_equals_that_of_lightgbm_called_directly(
    tree: Tree, records: np.ndarray, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """Served answers, metric lines, importances and the manifest."""
    assert train(num_leaves="5", metric="auc,binary_logloss") == 0, tree.failure
    table = records.astype(np.float32)
    data = lightgbm.Dataset(table[:N_TRAIN, 1:], table[:N_TRAIN, 0])
    parameters = {"objective": "binary", "num_leaves": 5, "verbosity": -1, "num_threads": 1}
    parameters |= {"deterministic": True, "force_row_wise": True}
    reference = lightgbm.train(parameters, data, 8)

    body = as_csv(records[N_TRAIN:, 1:])
    answer = _served(tree).invoke(Invocation(body, "text/csv", "application/json"))

    assert isinstance(answer.body, bytes)
    scores = [each["score"] for each in json.loads(answer.body)["predictions"]]
    np.testing.assert_allclose(scores, reference.predict(table[N_TRAIN:, 1:]), rtol=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("[7]\ttrain-auc:") for line in lines) == 1
    manifest = json.loads((tree.root / "model" / "byoa-manifest.json").read_text())
    assert manifest["algorithm"] == "lightgbm"
    assert manifest["model"]["n_features"] == 30
    found = json.loads((tree.root / "output/data/feature_importances.json").read_text())
    assert found["split"] == {
        f"Column_{index}": count
        for index, count in enumerate(reference.feature_importance("split"))
        if count
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "l1"},
        {"objective": "multiclass", "num_class": "2"},
        {"objective": "regression", "linear_tree": "true"},
        {"categorical_feature": "0,1", "min_data_per_group": "5"},
        {"early_stopping_rounds": "2", "learning_rate": "1", "num_boost_round": "40"},
        {"boosting": "dart"},
        {"bagging_fraction": "0.5", "bagging_freq": "2", "seed": "3"},
        {"pos_bagging_fraction": "0.5", "neg_bagging_fraction": "0.9", "bagging_freq": "1"},
        {"feature_fraction": "0.5", "feature_fraction_bynode": "0.8", "extra_trees": "true"},
    ],
    ids=str,
)
def test_resumed_job_leaves_the_bytes_of_the_unbroken_one(
    tree: Tree, train: Train, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """Samples of records and features included; `dart` begins anew."""
    assert train(**options) == 0
    unbroken = _text(tree)
    metrics = (tree.root / "output/data/metrics.json").read_bytes()
    for file in (tree.root / "checkpoints").glob("*"):
        file.unlink()

    _run_until(3, lambda: train(**options), monkeypatch)
    assert train(**options) == 0

    assert _text(tree) == unbroken
    assert (tree.root / "output/data/metrics.json").read_bytes() == metrics


def test_job_with_gradient_samples_resumes_too(
    tree: Tree, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounds before are kept; those after are others than without the interruption."""
    options = {"data_sample_strategy": "goss", "learning_rate": "1"}
    _run_until(3, lambda: train(**options), monkeypatch)
    assert train(**options) == 0

    assert lightgbm.Booster(model_str=_text(tree).decode()).current_iteration() == 8


def test_later_checkpoint_is_cut_to_fewer_rounds(tree: Tree, train: Train) -> None:
    """A job that asks for fewer rounds than a checkpoint has (C-032)."""
    assert train(num_boost_round="8") == 0
    assert train(num_boost_round="5") == 0

    assert lightgbm.Booster(model_str=_text(tree).decode()).current_iteration() == 5


def test_early_stopping_keeps_the_best_round(tree: Tree, train: Train) -> None:
    """The file has the rounds up to the best one, and the manifest says which that is."""
    options = {"learning_rate": "1", "early_stopping_rounds": "2", "num_boost_round": "60"}
    assert train(**options) == 0

    best = json.loads((tree.root / "model/byoa-manifest.json").read_text())["model"]
    history = json.loads((tree.root / "output/data/metrics.json").read_text())["history"]
    losses = history["validation-binary_logloss"]
    assert best["best_iteration"] == int(np.argmin(losses)) == len(losses) - 3
    n_rounds = lightgbm.Booster(model_str=_text(tree).decode()).current_iteration()
    assert n_rounds == best["best_iteration"] + 1


def test_names_of_columns_are_those_of_the_model(
    tree: Tree, records: np.ndarray, train: Train
) -> None:
    """Categorical features by name; a request's columns are matched by name."""
    names = ["label", *(f"cell {index}" for index in range(30))]
    for name, rows in (("train", records[:N_TRAIN]), ("validation", records[N_TRAIN:])):
        (tree.root / "input/data" / name / "a.csv").unlink()
        table = pyarrow.table(dict(zip(names, rows.T, strict=True)))
        pyarrow.parquet.write_table(table, tree.root / "input/data" / name / "a.parquet")
    channel = {"TrainingInputMode": "File", "ContentType": "application/x-parquet"}
    tree.configure("inputdataconfig.json", {"train": channel, "validation": channel})

    assert train(categorical_feature="cell 3") == 0, tree.failure
    assert _served(tree).model.feature_names == tuple(names[1:])

    assert train(categorical_feature="cell 99") == 1
    assert "'cell 99' is not the name of a feature" in tree.failure


def test_ranking_needs_query_ids(tree: Tree, records: np.ndarray, train: Train) -> None:
    """From libsvm; sparse records of training and of requests have zeros where cells are absent."""
    lines = as_libsvm(records[:N_TRAIN]).splitlines(keepends=True)
    with_ids = [
        line.replace(b" ", b" qid:%d " % (index // 20), 1) for index, line in enumerate(lines)
    ]
    channel = {"TrainingInputMode": "File", "ContentType": "text/libsvm"}
    tree.configure("inputdataconfig.json", {"train": channel})
    for name in ("train", "validation"):
        (tree.root / "input/data" / name / "a.csv").unlink()

    tree.channel("train", {"a.libsvm": b"".join(lines)})
    assert train(objective="lambdarank") == 1
    assert "has no query ids, which ranking needs" in tree.failure
    tree.channel("train", {"a.libsvm": b"".join(with_ids)})

    assert train(objective="lambdarank") == 0, tree.failure

    servable = _served(tree)
    sparse = servable.invoke(Invocation(b"0 1:3.5\n", "text/libsvm", "text/csv")).body
    dense = servable.invoke(Invocation(b"0,3.5" + 28 * b",0", "text/csv", "text/csv")).body
    assert sparse == dense


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"objective": "gamma"}, "label 0 does not fit objective='gamma'; labels must be positive"),
        ({"objective": "multiclass", "num_class": "1"}, "'num_class': is required"),
        ({"categorical_feature": "30"}, "use 0 to 29"),
        ({"monotone_constraints": "1,0"}, "has 2 elements and the records 30 features"),
        ({"interaction_constraints": "[[0,30]]"}, "30 is not the index of a feature"),
        ({"group_column": "40"}, "group column"),
    ],
)
def test_what_the_data_contradict_fails_with_the_reason(
    tree: Tree, train: Train, options: dict[str, str], problem: str
) -> None:
    """In the failure file, before LightGBM sees it."""
    assert train(**options) == 1
    assert problem in tree.failure


def test_several_hosts_are_refused(tree: Tree, train: Train) -> None:
    """With the remedy."""
    tree.configure("resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})

    assert train() == 1
    assert "trains on one: set InstanceCount to 1" in tree.failure


def test_job_without_validation_cannot_stop_early(tree: Tree, train: Train) -> None:
    """Nor tune by it."""
    (tree.root / "input/data/validation/a.csv").unlink()
    (tree.root / "input/data/validation").rmdir()

    assert train(early_stopping_rounds="3") == 1
    assert "needs the channel 'validation'" in tree.failure
    (tree.root / "output/failure").unlink()
    assert train(_tuning_objective_metric="validation:auc") == 1
    assert "tune 'train:auc'" in tree.failure


def test_training_ends_where_nothing_is_left_to_split(tree: Tree, train: Train) -> None:
    """LightGBM takes such rounds back; the job is done."""
    assert train(min_gain_to_split="50", num_boost_round="40") == 0

    history = json.loads((tree.root / "output/data/metrics.json").read_text())
    n_rounds = lightgbm.Booster(model_str=_text(tree).decode()).current_iteration()
    assert 0 < n_rounds == history["n_rounds"] < 40


def test_image_without_lightgbm_says_which_one_has_it(
    tree: Tree, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slim image: the job fails with the remedy."""
    prefix = "container.algorithms.lightgbm.training."
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    assert train() == 1
    assert "use the full image" in tree.failure
