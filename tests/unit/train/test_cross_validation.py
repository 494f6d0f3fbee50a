"""K-fold jobs: models, scores and files, against scikit-learn and XGBoost called directly."""

import csv
import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.metrics import log_loss

from container import manifest
from container.algorithms.serving_contract import ServingOptions
from container.algorithms.xgboost.algorithm import ALGORITHM
from container.algorithms.xgboost.training.folds import deal
from tests.unit.train.conftest import Tree, as_csv
from train import job


@pytest.fixture
def folds(cancer: Tree) -> Tree:
    """A job of three folds, over train and validation."""
    cancer.hyperparameters(
        objective="binary:logistic", eval_metric="logloss", num_round="4", _kfold="3"
    )
    return cancer


def _models(tree: Tree) -> list[xgboost.Booster]:
    files = sorted((tree.root / "model").glob("xgboost-model-*"), key=lambda f: int(f.name[14:]))
    assert [file.name for file in files] == [f"xgboost-model-{n}" for n in range(len(files))]
    return [xgboost.Booster(model_file=bytearray(file.read_bytes())) for file in files]


def _predictions(tree: Tree) -> np.ndarray:
    with (tree.root / "output" / "data" / "predictions.csv").open() as file:
        return np.array([[float(cell) for cell in row] for row in csv.reader(file)])


def _lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_deal_spreads_every_class_evenly(n_folds: int) -> None:
    """Each fold has its share of each class, to within one record."""
    labels = np.repeat([0, 1, 2], [50, 20, 5]).astype(np.float32)

    dealt = deal(labels, n_folds, is_stratified=True, random=np.random.default_rng(0))

    for name in (0, 1, 2):
        sizes = Counter(dealt[labels == name].tolist())
        assert max(sizes.values()) - min(sizes[fold] for fold in range(n_folds)) <= 1
    totals = Counter(dealt.tolist())
    assert max(totals.values()) - min(totals.values()) <= 1


def test_deal_is_random_and_reproducible() -> None:
    """The same seed gives the same folds, another seed gives others."""
    labels = np.zeros(100, dtype=np.float32)

    def dealt(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return deal(labels, 5, is_stratified=False, random=random).tolist()

    assert dealt(1) == dealt(1) != dealt(2)
    assert dealt(1) != [number % 5 for number in range(100)]


def test_folds_of_several_quantiles_predict_each_of_them(cancer: Tree, records: np.ndarray) -> None:
    """predictions.csv has a column for each output, and the ensemble is the mean of each."""
    cancer.hyperparameters(
        objective="reg:quantileerror", quantile_alpha="[0.1,0.9]", num_round="4", _kfold="2"
    )

    assert job.main(cancer.environ) == 0, cancer.failure

    written = _predictions(cancer)
    assert written.shape == (len(records), 3)
    np.testing.assert_array_equal(written[:, 0], records[:, 0])
    dealt = deal(
        records[:, 0].astype(np.float32),
        2,
        is_stratified=False,
        random=np.random.default_rng([0, 0]),
    )
    rows = xgboost.DMatrix(records[:, 1:].astype(np.float32))
    predicted = np.stack([model.predict(rows) for model in _models(cancer)])
    expected = predicted[dealt, np.arange(len(records))]
    np.testing.assert_allclose(written[:, 1:], expected, atol=1e-6)
    facts = manifest.read(cancer.root / "model")
    model = ALGORITHM.load(cancer.root / "model", facts, ServingOptions())
    served = model.predict(np.ascontiguousarray(records[:9, 1:].astype(np.float32)))
    np.testing.assert_allclose(served, predicted.mean(axis=0)[:9], atol=1e-6)


def test_each_model_scores_on_what_it_has_not_seen(folds: Tree, records: np.ndarray) -> None:
    """`predictions.csv` has for each record the mean of the models trained without it."""
    assert job.main(folds.environ) == 0, folds.failure

    models, rows = _models(folds), records.astype(np.float32)
    predictions = _predictions(folds)
    assert len(models) == 3
    np.testing.assert_array_equal(predictions[:, 0], rows[:, 0])  # train, then validation
    said = np.stack([model.predict(xgboost.DMatrix(rows[:, 1:])) for model in models])
    by = np.abs(said - predictions[:, 1]).argmin(axis=0)
    np.testing.assert_allclose(said[by, np.arange(len(rows))], predictions[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(predictions[:, 2], predictions[:, 1] > 0.5)
    scores = json.loads((folds.root / "output" / "data" / "cross_validation.json").read_bytes())
    losses = [log_loss(rows[by == n, 0], said[n, by == n]) for n in range(3)]
    assert Counter(by.tolist()) == {0: 190, 1: 190, 2: 189}
    found = scores["metrics"]["validation-logloss"]
    assert found["folds"] == pytest.approx(losses, rel=1e-5)
    assert found["mean"] == pytest.approx(np.mean(losses))
    assert found["std"] == pytest.approx(np.std(losses))


def test_models_are_those_that_xgboost_trains_without_the_fold(
    folds: Tree, records: np.ndarray
) -> None:
    """Same parameters, same records, same trees (C-097)."""
    assert job.main(folds.environ) == 0, folds.failure

    rows = records.astype(np.float32)
    predictions, models = _predictions(folds)[:, 1], _models(folds)
    said = np.stack([model.predict(xgboost.DMatrix(rows[:, 1:])) for model in models])
    by = np.abs(said - predictions).argmin(axis=0)
    for number, model in enumerate(models):
        own = rows[by != number]
        direct = xgboost.train(
            {"objective": "binary:logistic"}, xgboost.DMatrix(own[:, 1:], own[:, 0]), 4
        )
        everything = xgboost.DMatrix(rows[:, 1:])
        np.testing.assert_allclose(model.predict(everything), direct.predict(everything), atol=1e-6)


def test_last_line_has_the_mean_of_the_folds(
    folds: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """`[num_round]` and the averages; a tuning job reads the last value (C-100)."""
    assert job.main(folds.environ) == 0, folds.failure

    lines = _lines(capsys.readouterr().out)
    scores = json.loads((folds.root / "output" / "data" / "cross_validation.json").read_bytes())
    means = {name: f"{entry['mean']:.5f}" for name, entry in scores["metrics"].items()}
    assert lines[-1] == (
        f"[4]\ttrain-logloss:{means['train-logloss']}"
        f"\tvalidation-logloss:{means['validation-logloss']}"
    )
    numbers = [int(line[1 : line.index("]")]) for line in lines]
    assert numbers == [*range(4), *range(4), *range(4), 4, *range(4), 4]
    metrics = json.loads((folds.root / "output" / "data" / "metrics.json").read_bytes())
    assert f"{metrics['metrics']['validation-logloss']:.5f}" == means["validation-logloss"]
    assert (folds.root / "output" / "data" / "learning_curve.png").exists()


def test_repetitions_deal_anew(folds: Tree, records: np.ndarray) -> None:
    """`_num_cv_round`: as many models more, and a mean for each record."""
    folds.hyperparameters(
        objective="multi:softprob", num_class="2", num_round="2", _kfold="2", _num_cv_round="3"
    )

    assert job.main(folds.environ) == 0, folds.failure

    models, predictions = _models(folds), _predictions(folds)
    rows = records.astype(np.float32)
    said = np.stack([model.predict(xgboost.DMatrix(rows[:, 1:])) for model in models])
    assert len(models) == 6
    assert len({model.save_raw().hex() for model in models}) == 6
    # For each record one model of each pair has not seen it: one of eight means is the one.
    best = said.max(axis=2)
    choices = np.stack(
        [(best[a] + best[b] + best[c]) / 3 for a in (0, 1) for b in (2, 3) for c in (4, 5)]
    )
    assert np.abs(choices - predictions[:, 1]).min(axis=0).max() < 1e-6
    assert set(predictions[:, 2]) == {0, 1}


@pytest.mark.parametrize("objective", ["binary:logitraw", "binary:hinge", "multi:softmax"])
def test_classifier_without_probabilities_has_one_all_the_same(
    folds: Tree, records: np.ndarray, objective: str
) -> None:
    """The sigmoid of a margin, or how many of the models said so."""
    given = {"num_class": "2"} if objective == "multi:softmax" else {}
    folds.hyperparameters(
        objective=objective, num_round="8", _kfold="2", _num_cv_round="3", **given
    )

    assert job.main(folds.environ) == 0, folds.failure

    models, predictions = _models(folds), _predictions(folds)
    data = xgboost.DMatrix(records[:, 1:].astype(np.float32))
    said = np.stack([model.predict(data) for model in models]).astype(np.float64)
    if objective == "binary:logitraw":
        said = 1 / (1 + np.exp(-said))
    # For each record one model of each pair has not seen it: one of eight means is the one.
    choices = np.stack(
        [(said[a] + said[b] + said[c]) / 3 for a in (0, 1) for b in (2, 3) for c in (4, 5)]
    )
    if objective == "multi:softmax":  # of two classes: 0 is the commonest up to a half
        choices = np.maximum(choices, 1 - choices)
    assert np.abs(choices - predictions[:, 1]).min(axis=0).max() < 1e-6
    if objective == "binary:hinge":
        np.testing.assert_array_equal(predictions[:, 2], predictions[:, 1] > 0.5)
    assert len(set(predictions[:, 1])) > 1


def test_regression_has_two_columns(tree: Tree) -> None:
    """True value and mean prediction."""
    rows = np.random.default_rng(0).normal(size=(60, 4))
    tree.hyperparameters(_kfold="5")
    tree.channel("train", {"a.csv": as_csv(rows)})

    assert job.main(tree.environ) == 0, tree.failure

    predictions = _predictions(tree)
    assert predictions.shape == (60, 2)
    np.testing.assert_allclose(predictions[:, 0], rows[:, 0], rtol=1e-5)


def test_sparse_records_are_as_wide_in_every_fold(tree: Tree) -> None:
    """One model must not be narrower because it never saw the last column."""
    lines = [f"{n % 2} 0:{n} 1:{n % 7}" + (" 9:1" if n == 3 else "") for n in range(60)]
    tree.hyperparameters(_kfold="3", objective="binary:logistic")
    tree.channel("train", {"a.libsvm": "\n".join(lines[:40]).encode()})
    tree.channel("validation", {"a.libsvm": "\n".join(lines[40:]).encode()})

    assert job.main(tree.environ) == 0, tree.failure
    assert [model.num_features() for model in _models(tree)] == [10, 10, 10]


def test_weights_go_with_their_records(tree: Tree, records: np.ndarray) -> None:
    """csv_weights=1: a record of weight 0 changes nothing."""
    rows = np.column_stack([records[:, 0], np.ones(len(records)), records[:, 1:]])
    noise = rows[:200].copy()
    noise[:, 0], noise[:, 1] = 1 - noise[:, 0], 0
    tree.hyperparameters(
        _kfold="2", objective="binary:logistic", csv_weights="1", eval_metric="logloss"
    )
    tree.channel("train", {"a.csv": as_csv(np.vstack([rows, noise]))})

    assert job.main(tree.environ) == 0, tree.failure

    scores = json.loads((tree.root / "output" / "data" / "cross_validation.json").read_bytes())
    assert scores["metrics"]["validation-logloss"]["mean"] < 0.4  # the noise would make it 0.6


def test_early_stopping_needs_no_validation_channel(tree: Tree, records: np.ndarray) -> None:
    """The fold is the validation; every model has its own best round."""
    tree.hyperparameters(
        _kfold="3",
        objective="binary:logistic",
        num_round="200",
        eta="0.9",
        early_stopping_rounds="3",
    )
    tree.channel("train", {"a.csv": as_csv(records)})

    assert job.main(tree.environ) == 0, tree.failure

    for model in _models(tree):
        assert model.num_boosted_rounds() == int(model.attr("best_iteration") or 0) + 1 < 150


def test_folds_may_be_on_disk(folds: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, where memory does not suffice for their matrices."""
    assert job.main(folds.environ) == 0, folds.failure
    in_memory = [model.save_raw() for model in _models(folds)]
    monkeypatch.setattr("container.algorithms.xgboost.training.matrices._USABLE_SHARE", -1.0)

    assert job.main(folds.environ) == 0, folds.failure
    assert [model.save_raw() for model in _models(folds)] == in_memory


def test_server_loads_the_folds_as_an_ensemble(folds: Tree, records: np.ndarray) -> None:
    """The artifact predicts with the mean of its models (C-097)."""
    assert job.main(folds.environ) == 0, folds.failure

    directory = folds.root / "model"
    model = ALGORITHM.load(directory, manifest.read(directory), ServingOptions())
    features = records[:50, 1:].astype(np.float32)
    direct = [booster.predict(xgboost.DMatrix(features)) for booster in _models(folds)]
    np.testing.assert_allclose(model.predict(features), np.mean(direct, axis=0), rtol=1e-6)


def _die_in(monkeypatch: pytest.MonkeyPatch, n_lines: int, die: Callable[[], None]) -> None:
    announce, count = job.metric_lines.announce, 0

    def announce_until(iteration: int, scores: Any) -> None:
        nonlocal count
        announce(iteration, scores)
        count += 1
        if count == n_lines:
            die()

    monkeypatch.setattr(job.metric_lines, "announce", announce_until)


def test_resumed_cross_validation_ends_as_the_unbroken_one(
    folds: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the fold that it was in, and every file is the same (C-032)."""

    def outcome(tree: Tree) -> dict[str, bytes]:
        files = [*(tree.root / "model").iterdir(), *(tree.root / "output" / "data").iterdir()]
        return {file.name: file.read_bytes() for file in files}

    (folds.root / "checkpoints").mkdir()
    assert job.main(folds.environ) == 0, folds.failure
    unbroken = outcome(folds)
    for checkpoint in (folds.root / "checkpoints").iterdir():
        checkpoint.unlink()

    def die() -> None:
        raise ConnectionAbortedError("the machine is gone")

    with monkeypatch.context() as patch:
        _die_in(patch, 10, die)
        assert job.main(folds.environ) == 1
    names = sorted(path.name for path in (folds.root / "checkpoints").iterdir())
    assert names == ["checkpoint-00000001", "checkpoint-00000002"]
    assert job.main(folds.environ) == 0, folds.failure

    assert outcome(folds) == unbroken
    assert len(unbroken) == 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"_kfold": "1"}, "'_kfold'"),
        ({"_kfold": "x"}, "'_kfold'"),
        ({"_kfold": "3", "_num_cv_round": "0"}, "'_num_cv_round'"),
        ({"_kfold": "600"}, "'_kfold': asks for 600 folds of 569 records"),
    ],
)
def test_bad_folds_are_refused(cancer: Tree, given: dict[str, str], message: str) -> None:
    """The message names the hyperparameter and the number of records (C-014, C-028)."""
    cancer.hyperparameters(objective="binary:logistic", **given)

    assert job.main(cancer.environ) == 1
    assert message in cancer.failure


def test_bad_label_is_named_in_its_own_channel(tree: Tree) -> None:
    """The message does not name a fold, which the job owner cannot see."""
    tree.hyperparameters(objective="binary:logistic", _kfold="2")
    tree.channel("train", {"a.csv": b"1,2\n0,3\n1,4\n"})
    tree.channel("validation", {"a.csv": b"1,2\n3,3\n"})

    assert job.main(tree.environ) == 1
    assert "channel 'validation', record 2: label 3" in tree.failure


def test_class_of_one_record_is_no_class_to_fold(tree: Tree) -> None:
    """The message is about the records, not about a fold that nobody knows (C-028)."""
    tree.hyperparameters(objective="binary:logistic", _kfold="2")
    tree.channel("train", {"a.csv": b"1,2\n0,3\n0,4\n0,5\n"})

    assert job.main(tree.environ) == 1
    assert "'_kfold': only one record has the label 1" in tree.failure


def test_channels_of_other_widths_are_refused(tree: Tree) -> None:
    """As in a job without folds."""
    tree.hyperparameters(_kfold="2")
    tree.channel("train", {"a.csv": b"1,2\n0,3\n1,4\n"})
    tree.channel("validation", {"a.csv": b"1,2,5\n3,3,5\n"})

    assert job.main(tree.environ) == 1
    assert "feature columns" in tree.failure


@pytest.mark.parametrize(("n_lines", "n_models", "n_rounds"), [(2, 1, {2}), (10, 2, {4})])
def test_sigterm_keeps_the_folds_that_are_whole(
    folds: Tree,
    monkeypatch: pytest.MonkeyPatch,
    n_lines: int,
    n_models: int,
    n_rounds: set[int],
) -> None:
    """Or the rounds of the first one, if there are no others (C-029)."""
    handler = signal.getsignal(signal.SIGTERM)
    _die_in(monkeypatch, n_lines, lambda: signal.raise_signal(signal.SIGTERM))
    try:
        assert job.main(folds.environ) == 143
    finally:
        signal.signal(signal.SIGTERM, handler)

    models = _models(folds)
    assert len(models) == n_models
    assert {model.num_boosted_rounds() for model in models} <= n_rounds
    assert not (folds.root / "output" / "data" / "predictions.csv").exists()
