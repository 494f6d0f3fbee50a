"""Channels of records to the matrices that XGBoost trains on.

Histogram methods, which are the default, get quantised matrices, built batch by batch; one that
would not fit into memory is kept on disk and read page by page in every round. The other methods
need all values at once.
"""

import enum
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import xgboost

from container import allocator, cgroup
from container.algorithms.training_contract import Channel, Scratch, TrainingInput
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.algorithms.xgboost.training.labels import check_labels
from container.algorithms.xgboost.training.shards import Shard, agree
from container.codecs.records import Batch, Floats, QueryIds, SparseRows
from container.errors import ChannelError

logger = logging.getLogger(__name__)

# Size of a quantised matrix while it is built and trained on, measured with XGBoost 3.2 and 3.4 and
# 256 bins: 3.1 to 3.9 bytes a value where none is missing, 6.3 where some are, 26 bytes a stored
# value of sparse rows; and 50 bytes a row, which must fit into memory in any case.
_BYTES_OF_A_VALUE = 4
_BYTES_BESIDE_GAPS = 7
_BYTES_OF_A_SPARSE_VALUE = 26
_BYTES_OF_A_ROW = 50
# The rest is for trees, for buffers and for errors of the estimate.
_USABLE_SHARE = 0.8


class _Form(enum.Enum):
    """Form in which XGBoost holds the records."""

    QUANTILES = "quantiles"
    QUANTILES_ON_DISK = "quantiles_on_disk"
    VALUES = "values"


@dataclass(slots=True)
class _Survey:
    """Facts from one pass over a channel."""

    n_rows: int = 0
    n_values: int = 0  # without those that sparse rows leave out
    width: int = 0  # feature columns; of sparse rows the last one that occurs
    is_sparse: bool = False
    has_gaps: bool = False
    lowest_label: float = np.inf
    highest_label: float = -np.inf
    counts: bool = False  # True if any record has a weight other than 0
    is_weighted: bool = False  # True if any has a weight other than 1, the default of libsvm
    list_sizes: list[int] = field(default_factory=list)  # records of each list of a ranking
    last_query_id: int | None = None
    border_query_ids: Collection[int] = ()  # of the lists that may go on on other hosts

    def add(self, batch: Batch) -> None:
        """Count the next records."""
        self.n_rows += batch.n_rows
        self.width = max(self.width, batch.n_features)
        if isinstance(batch.features, SparseRows):
            self.is_sparse = True
            self.n_values += len(batch.features.values)
        else:
            self.n_values += batch.features.size
            self.has_gaps = self.has_gaps or bool(np.isnan(batch.features).any())
        if batch.labels is not None:
            self.lowest_label = min(self.lowest_label, float(batch.labels.min()))
            self.highest_label = max(self.highest_label, float(batch.labels.max()))
        self.counts = self.counts or batch.weights is None or bool(batch.weights.any())
        self.is_weighted = self.is_weighted or (
            batch.weights is not None and bool((batch.weights != 1).any())
        )
        if batch.query_ids is not None:
            self._add_lists(batch.query_ids)

    def _add_lists(self, query_ids: QueryIds) -> None:
        """Count the records of each list; the last one may go on in the next batch."""
        starts = np.flatnonzero(query_ids[1:] != query_ids[:-1]) + 1
        sizes = np.diff(starts, prepend=0, append=len(query_ids)).tolist()
        if query_ids[0] == self.last_query_id:
            self.list_sizes[-1] += sizes.pop(0)
        self.list_sizes += sizes
        self.last_query_id = int(query_ids[-1])

    @property
    def quantised_bytes(self) -> int:
        """Estimated size of a quantised matrix of these records."""
        value = _BYTES_BESIDE_GAPS if self.has_gaps else _BYTES_OF_A_VALUE
        value = _BYTES_OF_A_SPARSE_VALUE if self.is_sparse else value
        return self.n_values * value + self.n_rows * _BYTES_OF_A_ROW

    @property
    def shard(self) -> Shard:
        """Facts for the other hosts."""
        return Shard(
            n_rows=self.n_rows,
            width=self.width,
            is_sparse=self.is_sparse,
            lowest_label=self.lowest_label,
            highest_label=self.highest_label,
            counts=self.counts,
            has_lists=bool(self.list_sizes),
            border_query_ids=self.border_query_ids,
        )


@dataclass(frozen=True, slots=True)
class Surveys:
    """Facts about the records of a job: by channel on this host, the width on all hosts."""

    by_channel: Mapping[str, _Survey]  # `train` first
    width: int


def survey(job: TrainingInput, hyperparameters: XGBoostHyperparameters) -> Surveys:
    """Read all channels once and agree with the other hosts on widths, labels and lists.

    Args:
        hyperparameters: For the labels that the objective can learn from.
    Raises:
        ChannelError: labels, weights or widths that do not fit.
    """
    names = sorted(job.channels, key=_train_first)
    surveys = {name: _survey(job.channels[name], hyperparameters) for name in names}
    allocator.release_free_memory()  # 30 MB that reading has used
    shards = {name: found.shard for name, found in surveys.items()}
    return Surveys(surveys, width=agree(job.cluster, shards, hyperparameters)["train"].width)


def build_matrices(
    job: TrainingInput,
    surveys: Surveys,
    hyperparameters: XGBoostHyperparameters,
    parameters: Mapping[str, Any],
) -> dict[str, xgboost.DMatrix]:
    """Build one matrix a channel, `train` first; several hosts must be connected.

    Args:
        job: Gives the channels, `train` and those to evaluate, and the scratch space.
        hyperparameters: The objective decides the kind of the labels.
        parameters: For XGBoost, `nthread` included.
    """
    form = _form(surveys.by_channel, parameters, job.scratch)
    began = time.monotonic()
    is_censored = hyperparameters.objective == "survival:aft"
    matrices: dict[str, xgboost.DMatrix] = {}
    for name, found in surveys.by_channel.items():
        records = _Records(
            job.channels[name],
            surveys.width,
            is_censored=is_censored,
            is_weighted=found.is_weighted,
        )
        if form is _Form.VALUES:
            matrices[name] = records.all_values(found)
        else:
            on_disk = form is _Form.QUANTILES_ON_DISK
            directory = job.scratch.directory() if on_disk else None
            matrices[name] = _quantised(
                _BatchIterator(records, str(directory / name) if directory else None),
                parameters,
                reference=matrices.get("train"),
            )
        if found.list_sizes and hyperparameters.uses_lists:
            # Not batch by batch: a list that goes on in the next batch would become two.
            matrices[name].set_group(found.list_sizes)
    allocator.release_free_memory()
    facts = {"form": form.value, "n_features": surveys.width}
    seconds = round(time.monotonic() - began, 3)
    logger.info("matrices_built", extra=facts | {"duration_seconds": seconds})
    return matrices


def _train_first(name: str) -> tuple[bool, str]:
    return name != "train", name


def _survey(channel: Channel, hyperparameters: XGBoostHyperparameters) -> _Survey:
    found = _Survey()
    for batch in channel.batches():
        if batch.labels is not None:
            check_labels(batch.labels, hyperparameters, channel=channel.name, n_before=found.n_rows)
        found.add(batch)
        uses_lists = hyperparameters.uses_lists and bool(found.list_sizes)
        if found.is_weighted and (hyperparameters.is_ranking or uses_lists):
            raise ChannelError(
                f"channel {channel.name!r}: there are records with a weight, which ranking cannot "
                "use, since XGBoost weighs whole lists; leave the weights out"
            )
    found.border_query_ids = channel.border_query_ids
    return found


def _form(surveys: Mapping[str, _Survey], parameters: Mapping[str, Any], scratch: Scratch) -> _Form:
    if not _uses_histograms(parameters):
        return _Form.VALUES
    needed = sum(survey.quantised_bytes for survey in surveys.values())
    available = int(scratch.memory_bytes * _USABLE_SHARE) - cgroup.resident_bytes()
    if needed <= available:
        return _Form.QUANTILES
    facts = {"needed_mb": needed // 10**6, "available_mb": available // 10**6}
    if not scratch.has_disk:
        logger.warning("memory_may_not_suffice", extra=facts)
        return _Form.QUANTILES
    logger.warning("memory_does_not_suffice", extra=facts | {"instead": "disk; rounds are slower"})
    return _Form.QUANTILES_ON_DISK


def _uses_histograms(parameters: Mapping[str, Any]) -> bool:
    return (
        parameters.get("tree_method", "auto") in ("auto", "hist")
        and parameters.get("booster") != "gblinear"
        and "updater" not in parameters
    )


def _quantised(
    batches: "_BatchIterator", parameters: Mapping[str, Any], *, reference: xgboost.DMatrix | None
) -> xgboost.DMatrix:
    kind = xgboost.ExtMemQuantileDMatrix if batches.is_on_disk else xgboost.QuantileDMatrix
    return kind(
        batches,
        ref=reference,
        nthread=parameters["nthread"],
        max_bin=parameters.get("max_bin"),
    )


class _Records:
    """Channel in the form that XGBoost takes."""

    def __init__(
        self, channel: Channel, width: int, *, is_censored: bool, is_weighted: bool
    ) -> None:
        self._channel = channel
        self._width = width
        self._is_censored = is_censored
        self._is_weighted = is_weighted

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments for each part of a matrix: data, label and so on."""
        for batch in self._batches():
            yield {"data": self._features(batch)} | self._facts(batch.labels, batch.weights)

    def all_values(self, survey: _Survey) -> xgboost.DMatrix:
        """Return a matrix that is not quantised."""
        batches = list(self._batches())
        parts = [self._features(batch) for batch in batches]
        stack = scipy.sparse.vstack if survey.is_sparse else np.vstack
        labels = [batch.labels for batch in batches if batch.labels is not None]
        weights = [batch.weights for batch in batches if batch.weights is not None]
        facts = self._facts(np.concatenate(labels), np.concatenate(weights) if weights else None)
        return xgboost.DMatrix(stack(parts), **facts)

    def _batches(self) -> Iterator[Batch]:
        is_empty = True
        for batch in self._channel.batches():
            is_empty = False
            yield batch
        if is_empty:  # on one of several hosts, which takes part all the same
            no_rows = np.empty((0, self._width), dtype=np.float32)
            yield Batch(no_rows, labels=np.empty(0, dtype=np.float32))

    def _features(self, batch: Batch) -> Any:
        if isinstance(batch.features, SparseRows):
            rows = batch.features
            return scipy.sparse.csr_matrix(
                (rows.values, rows.columns, rows.offsets), shape=(batch.n_rows, self._width)
            )
        return batch.features

    def _facts(self, labels: Floats | None, weights: Floats | None) -> dict[str, Any]:
        """Return the labels, and the weights if they differ: ranking refuses even weights of 1.

        Accelerated failure time takes the label as an exact time.
        """
        facts: dict[str, Any] = {"label": labels}
        if self._is_weighted:
            facts["weight"] = weights
        if self._is_censored:
            facts |= {"label_lower_bound": labels, "label_upper_bound": labels}
        return facts


class _BatchIterator(xgboost.DataIter):
    """Iterator over the batches for XGBoost, which reads them several times."""

    def __init__(self, records: _Records, cache_prefix: str | None) -> None:
        super().__init__(cache_prefix=cache_prefix)
        self.is_on_disk = cache_prefix is not None
        self._records = records
        self._remaining: Iterator[dict[str, Any]] = iter(())

    def next(self, input_data: Any) -> bool:
        batch = next(self._remaining, None)
        if batch is None:
            return False
        input_data(**batch)
        return True

    def reset(self) -> None:
        self._remaining = self._records.batches()
