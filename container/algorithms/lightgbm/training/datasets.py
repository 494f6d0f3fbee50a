"""Channels of records to the datasets that LightGBM trains on: 1 byte a value once they are binned.

The records of a channel are one matrix of 4 bytes a value, which is forgotten when it is binned.
Dense records keep NaN for a missing cell; a cell that sparse records leave out is 0 to LightGBM, in
training as in serving.
"""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import scipy.sparse

from container import allocator
from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.algorithms.lightgbm.training.target_labels import check_target
from container.algorithms.training_contract import Channel, TrainingInput
from container.codecs.records import Batch, SparseRows
from container.errors import ChannelError, HyperparameterError

logger = logging.getLogger(__name__)

# Names that LightGBM keeps as they are; it refuses JSON's signs and replaces blanks.
_PLAIN_NAME = re.compile(r"[^\s\[\]{}\":,=]+")


@dataclass(slots=True)
class _Records:
    """All records of a channel, in parts."""

    name: str
    parts: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    query_ids: list[Any] = field(default_factory=list)
    n_rows: int = 0
    width: int = 0
    is_sparse: bool = False

    def add(self, batch: Batch, hyperparameters: LightGBMHyperparameters) -> None:
        """Keep the next records; their arrays may be views of a buffer that is used again."""
        if batch.labels is not None:
            check_target(batch.labels, hyperparameters, channel=self.name, n_before=self.n_rows)
            self.labels.append(batch.labels.copy())
        if batch.weights is not None:
            self.weights.append(batch.weights.copy())
        if batch.query_ids is not None:
            self.query_ids.append(batch.query_ids.copy())
        self.n_rows += batch.n_rows
        self.width = max(self.width, batch.n_features)
        if isinstance(batch.features, SparseRows):
            self.is_sparse = True
            rows = batch.features
            cells = (rows.values.copy(), rows.columns.copy(), rows.offsets.copy())
            self.parts.append(scipy.sparse.csr_matrix(cells, shape=rows.shape))
        else:
            self.parts.append(batch.features.copy())

    def take_features(self, width: int) -> Any:
        """Return all features in a form that LightGBM takes; nothing is left here."""
        parts, self.parts = self.parts, []
        if self.is_sparse:
            for part in parts:  # as wide as the last column that occurs in them
                part.resize(part.shape[0], width)
            return scipy.sparse.vstack(parts, format="csr")
        # The system commits memory as it is filled, while that of the parts is released.
        features = np.empty((self.n_rows, width), dtype=np.float32)
        stop = self.n_rows
        while parts:
            part = parts.pop()
            features[stop - len(part) : stop] = part
            stop -= len(part)
        return features

    def all_weights(self) -> Any:
        """Return the weights of all records; None where none differs from 1."""
        weights = np.concatenate(self.weights) if self.weights else np.ones(1, dtype=np.float32)
        if not weights.any():
            raise ChannelError(f"channel {self.name!r}: all weights are 0: no record counts")
        return weights if (weights != 1).any() else None

    def list_sizes(self) -> Any:
        """Return the number of records of each list of a ranking."""
        if not self.query_ids:
            return np.array([self.n_rows])
        ids = np.concatenate(self.query_ids)
        starts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        return np.diff(starts, prepend=0, append=len(ids))


@dataclass(frozen=True, slots=True)
class Datasets:
    """One dataset a channel, `train` first, and what they have in common."""

    by_channel: dict[str, lightgbm.Dataset]
    n_features: int
    feature_names: tuple[str, ...] | None
    is_sparse: bool


def read_datasets(job: TrainingInput, hyperparameters: LightGBMHyperparameters) -> Datasets:
    """Read all channels. LightGBM bins the records when the datasets are first used.

    Raises:
        ChannelError: labels, weights, widths or query ids that do not fit.
        HyperparameterError: features that are named there are not in the records.
    """
    began = time.monotonic()
    found = {
        name: _read(job.channels[name], hyperparameters)
        for name in sorted(job.channels, key=lambda name: (name != "train", name))
    }
    train = found["train"]
    names = job.channels["train"].feature_names
    for records in found.values():
        _check_against(train, records, hyperparameters)
    _check_classes(train, hyperparameters)
    _check_widths(hyperparameters, train.width)
    categorical = _indices(hyperparameters.categorical_feature or (), names, train.width)
    datasets: dict[str, lightgbm.Dataset] = {}
    for name, records in found.items():
        datasets[name] = lightgbm.Dataset(
            records.take_features(train.width),
            label=np.concatenate(records.labels),
            weight=records.all_weights(),
            group=records.list_sizes() if hyperparameters.uses_lists else None,
            reference=datasets.get("train"),
            feature_name=_plain(names) or "auto",
            categorical_feature=categorical,
            free_raw_data=True,
        )
    allocator.release_free_memory()
    facts = {"n_features": train.width, "n_categorical": len(categorical)}
    seconds = round(time.monotonic() - began, 3)
    logger.info("datasets_read", extra=facts | {"duration_seconds": seconds})
    return Datasets(datasets, train.width, tuple(names) if names else None, train.is_sparse)


def _read(channel: Channel, hyperparameters: LightGBMHyperparameters) -> _Records:
    records = _Records(channel.name)
    for batch in channel.batches():
        records.add(batch, hyperparameters)
    if not records.n_rows:
        raise ChannelError(f"channel {channel.name!r} holds no records")
    return records


def _check_against(
    train: _Records, records: _Records, hyperparameters: LightGBMHyperparameters
) -> None:
    """Refuse records that do not go with those of `train`."""
    fits = records.width == train.width or (records.is_sparse and records.width < train.width)
    if not fits:
        raise ChannelError(
            f"channel {records.name!r} has {records.width} feature columns where 'train' has "
            f"{train.width}; give both the same columns"
        )
    if hyperparameters.group_column is not None and not records.query_ids:
        raise ChannelError(
            f"channel {records.name!r} has no query ids, for which the job names a group_column; "
            "it is for CSV and Parquet: in libsvm write qid:N after each label"
        )
    if not hyperparameters.uses_lists:
        return
    if not records.query_ids:
        raise ChannelError(
            f"channel {records.name!r} has no query ids, which ranking needs: qid:N after the "
            "label in libsvm, the hyperparameter group_column for CSV and Parquet"
        )


def _check_classes(train: _Records, hyperparameters: LightGBMHyperparameters) -> None:
    labels = np.concatenate(train.labels)
    is_classifier = hyperparameters.objective in ("binary", "multiclass", "multiclassova")
    if is_classifier and labels.min() == labels.max():
        raise ChannelError(
            f"channel 'train': all {train.n_rows} labels are {labels[0]:g}; a classifier needs at "
            "least two classes"
        )


def _check_widths(hyperparameters: LightGBMHyperparameters, n_features: int) -> None:
    """Refuse lists with an element a feature that have another number of elements."""
    for name in ("monotone_constraints", "feature_contri", "max_bin_by_feature"):
        values: Sequence[object] | None = getattr(hyperparameters, name)
        if values is not None and len(values) != n_features:
            raise HyperparameterError(
                name,
                f"has {len(values)} elements and the records {n_features} features; give "
                "one for each",
            )
    for group in hyperparameters.interaction_constraints or ():
        _indices(group, None, n_features, name="interaction_constraints")


def _indices(
    columns: Sequence[int | str],
    names: Sequence[str] | None,
    n_features: int,
    *,
    name: str = "categorical_feature",
) -> list[int]:
    """Return the indices of features that are given by index or name."""
    found = []
    for column in columns:
        if isinstance(column, str) and column not in (names or ()):
            known = f"; known are: {', '.join(names)}"[:300] if names else "; the records have none"
            raise HyperparameterError(name, f"{column!r} is not the name of a feature{known}")
        index = list(names or ()).index(column) if isinstance(column, str) else column
        if index >= n_features:
            raise HyperparameterError(
                name,
                f"{index} is not the index of a feature: they count from 0 without the label, so "
                f"use 0 to {n_features - 1}",
            )
        found.append(index)
    return sorted(set(found))


def _plain(names: Sequence[str] | None) -> list[str] | None:
    """Return names that LightGBM can keep; None where it would refuse or change one of them."""
    if not names or not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return None
    return list(names)
