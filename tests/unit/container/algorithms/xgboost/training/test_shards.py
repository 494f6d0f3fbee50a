"""Agreement of hosts, each in a thread of its own with a channel of memory between them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from container.algorithms.xgboost.evaluation_metrics import evaluator
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training import shards
from container.algorithms.xgboost.training.collective import check_distributable
from container.algorithms.xgboost.training.shards import Shard, agree
from container.errors import ChannelError, HyperparameterError, TrainingError
from tests.waiting import PATIENCE_SECONDS

CLASSIFIER = {"num_round": "1", "objective": "binary:logistic"}


class Host:
    """One host of several; `gather` does as the coordinator does."""

    def __init__(self, rank: int, n_hosts: int, table: list[Any], barrier: threading.Barrier):
        self.rank = rank
        self.hosts = tuple(f"algo-{n + 1}" for n in range(n_hosts))
        self.address = "127.0.0.1"
        self._table = table
        self._barrier = barrier

    def gather(self, value: Any) -> list[Any]:
        self._table[self.rank] = value
        self._barrier.wait(PATIENCE_SECONDS)
        values = list(self._table)
        self._barrier.wait(PATIENCE_SECONDS)
        return values


def on_hosts(n_hosts: int, work: Callable[[Host], Any]) -> list[Any]:
    """Run `work` on each host; return its results, or the errors that it raises."""
    table: list[Any] = [None] * n_hosts
    barrier = threading.Barrier(n_hosts)

    def run(rank: int) -> Any:
        try:
            return work(Host(rank, n_hosts, table, barrier))
        except (ChannelError, TrainingError, HyperparameterError) as error:
            return error

    with ThreadPoolExecutor(n_hosts) as pool:
        return list(pool.map(run, range(n_hosts)))


def hyperparameters(**values: str) -> XGBoostHyperparameters:
    return XGBoostHyperparameters.model_validate(CLASSIFIER | values)


NOTHING = Shard(0, 0, False, np.inf, -np.inf, False)


def shard(labels: list[float], width: int = 3, *, counts: bool = True) -> Shard:
    return Shard(len(labels), width, False, min(labels), max(labels), counts)


def agreed(*shards: Shard, channel: str = "train", **values: str) -> list[Any]:
    """Return the agreement of hosts that have one of the shards each."""

    def work(host: Host) -> Any:
        own = {"train": shard([0, 1]), channel: shards[host.rank]}
        return agree(host, own, hyperparameters(**values))[channel]

    return on_hosts(len(shards), work)


def test_one_class_on_a_host_is_fine_if_there_are_two_in_all() -> None:
    """C-025: hosts know the whole, not only their own records; one may have none."""
    results = agreed(shard([0, 0]), NOTHING, shard([1]))

    assert results == [Shard(3, 3, False, 0.0, 1.0, True)] * 3


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ([shard([1, 1]), shard([1])], "all 3 labels are 1"),
        ([NOTHING, NOTHING], "holds no records on any of 2 hosts"),
        ([shard([0]), shard([1], width=4)], "3 feature columns on host 'algo-1' where 'train'"),
        (
            [shard([0], counts=False), shard([1], counts=False)],
            "all weights are 0",
        ),
        (
            [NOTHING, shard([0, 1]), Shard(1, 2, True, 0, 1, True)],
            "has dense records on host 'algo-2' and sparse ones on host 'algo-3'",
        ),
    ],
)
def test_shards_that_do_not_fit_are_refused_on_every_host(shards: list[Shard], reason: str) -> None:
    """C-027: with the same words."""
    results = agreed(*shards)

    assert all(isinstance(result, ChannelError) for result in results)
    assert {result.message for result in results} == {results[0].message}
    assert reason in results[0].message


def test_weight_on_one_host_is_enough() -> None:
    """Those of weight 0 may all have come to the same host."""
    results = agreed(shard([0], counts=False), shard([1]))

    assert results[0].counts


def test_sparse_shards_may_be_narrower_than_the_whole() -> None:
    """Their width is that of the last column that happens to occur."""

    narrow, wide = Shard(1, 2, True, 0, 0, True), Shard(1, 7, True, 1, 1, True)

    assert [result.width for result in agreed(narrow, wide)] == [7, 7]


def test_ranking_by_map_needs_records_everywhere() -> None:
    """XGBoost would abort the process of the empty host."""
    results = agreed(shard([0, 1]), NOTHING, objective="rank:map")

    assert "on algo-2" in results[0].message


def test_hosts_with_other_versions_of_xgboost_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would not grow the same trees."""
    versions = iter(["3.2.0", "3.4.1"])

    class Versions:
        @property
        def __version__(self) -> str:
            return next(versions)

    monkeypatch.setattr(shards, "xgboost", Versions())

    results = agreed(shard([0]), shard([1]))

    assert all("XGBoost 3." in result.message for result in results)


def test_hosts_with_other_channels_are_refused() -> None:
    """They would wait for each other over different matrices."""

    def work(host: Host) -> Any:
        own = {"train": shard([0, 1])} | ({"validation": shard([0])} if host.rank else {})
        return agree(host, own, hyperparameters())

    results = on_hosts(2, work)

    assert all("host 'algo-2' has channels train, validation" in r.message for r in results)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"booster": "gblinear"}, "'booster'"),
        ({"tree_method": "exact"}, "'tree_method'"),
        ({"updater": "grow_colmaker"}, "'updater'"),
        ({"updater": "grow_histmaker,prune"}, "'updater'"),
        ({"objective": "survival:cox"}, "'objective'"),
        ({"eval_metric": "rmse,cox-nloglik"}, "'eval_metric'"),
    ],
)
def test_what_works_on_one_host_only_is_refused(values: dict[str, str], name: str) -> None:
    """C-014: XGBoost itself says so in the first round, crashes, or learns from one host alone."""
    checked = hyperparameters(**values)

    results = on_hosts(2, lambda host: check_distributable(checked, host))

    assert all(name in result.message and "on 2 hosts" in result.message for result in results)
    assert on_hosts(1, lambda host: check_distributable(checked, host)) == [None]


class Matrix:
    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels

    def get_label(self) -> np.ndarray:
        return self._labels


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
@pytest.mark.parametrize("cuts", [[], [50], [0], [120, 120], [30, 90]])
def test_metrics_are_those_of_all_records(cuts: list[int], objective: str) -> None:
    """C-100: exactly, wherever the records are, also with classes and hosts that have none."""
    random = np.random.default_rng(0)
    labels = np.sort(random.integers(0, 3, 120)).astype(np.float32)
    predicted = np.where(random.random(120) < 0.7, labels, (labels + 1) % 3).astype(np.float32)
    parts = list(zip(np.split(labels, cuts), np.split(predicted, cuts), strict=True))
    names = ["accuracy", "balanced_accuracy", "f1_macro", "mse", "precision_macro", "r2"]

    def work(host: Host) -> dict[str, float]:
        own_labels, own_predicted = parts[host.rank]
        if not own_labels.size:
            own_predicted = np.zeros((0, 0), np.float32)  # as of XGBoost 3.4.1
        elif objective == "multi:softprob":
            own_predicted = np.eye(3, dtype=np.float32)[own_predicted.astype(int)]
        evaluate = evaluator(names, objective, host.gather)
        return dict(evaluate(own_predicted, Matrix(own_labels)))

    results = on_hosts(len(parts), work)

    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "f1_macro": metrics.f1_score(labels, predicted, average="macro"),
        "mse": metrics.mean_squared_error(labels, predicted),
        "precision_macro": metrics.precision_score(labels, predicted, average="macro"),
        "r2": metrics.r2_score(labels, predicted),
    }
    for result in results:
        assert list(result) == names
        assert result == pytest.approx(expected)
