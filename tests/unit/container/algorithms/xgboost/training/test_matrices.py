"""Matrices out of channels, in memory and on disk."""

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xgboost

from container.algorithms.training_contract import TrainingInput
from container.algorithms.xgboost import library_log
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training.matrices import build_matrices, survey
from container.codecs.records import Batch, SparseRows
from train.distributed.cluster import OneHost

N_ROWS = 20_000
SPARSE_SHARE = 0.3


@dataclass
class Channel:
    """Records cut into batches, as `train` gives them."""

    name: str
    features: np.ndarray
    is_sparse: bool = False
    n_batches: int = 7
    border_query_ids: tuple[int, ...] = ()

    @property
    def labels(self) -> np.ndarray:
        return (np.nan_to_num(self.features[:, 0]) + self.features[:, 1] > 0).astype(np.float32)

    def batches(self) -> Iterator[Batch]:
        for rows, labels in zip(
            np.array_split(self.features, self.n_batches),
            np.array_split(self.labels, self.n_batches),
            strict=True,
        ):
            yield Batch(_sparse(rows) if self.is_sparse else rows, labels)


def _sparse(rows: np.ndarray) -> SparseRows:
    there = ~np.isnan(rows)
    return SparseRows(
        offsets=np.concatenate([[0], np.cumsum(there.sum(axis=1))]),
        columns=np.nonzero(there)[1].astype(np.int32),
        values=rows[there],
        n_columns=rows.shape[1],
    )


@dataclass
class Scratch:
    memory_bytes: int
    place: Path
    has_disk: bool = True

    def directory(self) -> Path:
        return self.place


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(N_ROWS, 6)).astype(np.float32)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., TrainingInput]:
    def make(memory_bytes: int, *channels: Channel, has_disk: bool = True) -> Any:
        return SimpleNamespace(
            channels={channel.name: channel for channel in channels},
            scratch=Scratch(memory_bytes, tmp_path, has_disk),
            cluster=OneHost("localhost"),
        )

    return make


HYPERPARAMETERS = XGBoostHyperparameters(num_round=3, objective="binary:logistic")
PARAMETERS = {"objective": "binary:logistic", "nthread": 2, "max_depth": 4}


def _matrices(job: TrainingInput, **parameters: Any) -> dict[str, xgboost.DMatrix]:
    surveys = survey(job, HYPERPARAMETERS)
    return build_matrices(job, surveys, HYPERPARAMETERS, PARAMETERS | parameters)


def _trees(matrices: dict[str, xgboost.DMatrix]) -> list[str]:
    evals = [(matrix, name) for name, matrix in matrices.items()]
    booster = xgboost.train(PARAMETERS, matrices["train"], 5, evals=evals, verbose_eval=False)
    return list(booster.get_dump(dump_format="json"))


def _with_gaps(features: np.ndarray) -> np.ndarray:
    features = features.copy()
    features[np.random.default_rng(6).random(features.shape) < SPARSE_SHARE] = np.nan
    features[:, 1] = np.nan_to_num(features[:, 1])
    return features


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_records_that_do_not_fit_train_the_same_model_from_disk(
    job: Callable[..., TrainingInput],
    features: np.ndarray,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    *,
    is_sparse: bool,
    has_gaps: bool,
) -> None:
    """Records in memory and on disk give the same model, and the log says which it was."""
    features = _with_gaps(features) if has_gaps else features
    channels = [
        Channel("validation", features[:500], is_sparse),
        Channel("train", features[500:], is_sparse),
    ]

    in_memory = _matrices(job(2**40, *channels))
    with caplog.at_level(logging.INFO):
        on_disk = _matrices(job(2**20, *channels))

    assert list(on_disk) == ["train", "validation"]
    assert isinstance(on_disk["train"], xgboost.ExtMemQuantileDMatrix)
    assert isinstance(in_memory["train"], xgboost.QuantileDMatrix)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"train", "validation"}
    assert _trees(on_disk) == _trees(in_memory)
    events = {record.message: vars(record) for record in caplog.records}
    assert events["memory_does_not_suffice"]["needed_mb"] >= 0
    assert events["matrices_built"]["form"] == "quantiles_on_disk"


def test_without_a_disk_memory_is_used(
    job: Callable[..., TrainingInput], features: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache in a tmpfs would take memory, too; the log warns."""
    matrices = _matrices(job(2**20, Channel("train", features), has_disk=False))

    assert isinstance(matrices["train"], xgboost.QuantileDMatrix)
    assert "memory_may_not_suffice" in [record.message for record in caplog.records]


@pytest.mark.parametrize("is_sparse", [False, True])
def test_exact_methods_get_all_values(
    job: Callable[..., TrainingInput], features: np.ndarray, *, is_sparse: bool
) -> None:
    """The exact methods cannot train on quantiles."""
    channel = Channel("train", _with_gaps(features), is_sparse)

    matrix = _matrices(job(2**40, channel), tree_method="exact")["train"]

    assert not isinstance(matrix, xgboost.QuantileDMatrix)
    expected = xgboost.DMatrix(channel.features, channel.labels).get_data()
    assert (matrix.get_data() != expected).nnz == 0
    np.testing.assert_array_equal(matrix.get_label(), channel.labels)


def test_each_batch_is_released_before_the_next(
    job: Callable[..., TrainingInput], features: np.ndarray
) -> None:
    """None of its arrays is kept, since one may be a view of the whole batch."""
    alive: list[weakref.ref[np.ndarray]] = []
    most_alive = 0

    class OneMemory(Channel):
        def batches(self) -> Iterator[Batch]:
            nonlocal most_alive
            for batch in super().batches():
                memory = np.column_stack([batch.labels, batch.features])
                alive.append(weakref.ref(memory))
                most_alive = max(most_alive, sum(each() is not None for each in alive))
                yield Batch(memory[:, 1:], memory[:, 0])

    _matrices(job(2**40, OneMemory("train", features, n_batches=50)))

    assert len(alive) >= 50
    assert most_alive < 5


def test_messages_of_the_library_are_events(caplog: pytest.LogCaptureFixture) -> None:
    """Without time stamp, path and line breaks; and no Python warning, which would be an error."""
    library_log.forward()
    data = xgboost.DMatrix(np.ones((2, 1)), np.ones(2))

    xgboost.train({"nonsense": 1}, data, 1)

    (record,) = [record for record in caplog.records if record.message == "xgboost_message"]
    assert record.levelno == logging.WARNING
    assert vars(record)["text"] == 'Parameters: { "nonsense" } are not used.'
