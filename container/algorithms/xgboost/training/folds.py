"""Folds of the records, without a copy: each channel is read through a mask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from container.algorithms.training_contract import Channel
from container.codecs.records import Batch, Floats, QueryIds, SparseRows
from container.errors import ChannelError

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Records:
    """Records of all channels, `train` first, as one sequence."""

    channels: tuple[Channel, ...]
    labels: Mapping[str, Floats]  # by channel, float32 [n_rows]
    n_features: int
    lists: QueryIds | None  # [n_rows], the number of each record's list, from 0; None without any

    @classmethod
    def survey(cls, channels: Mapping[str, Channel]) -> "Records":
        """Read all channels once.

        Raises:
            ChannelError: two channels differ in their columns.
        """
        labels: dict[str, Floats] = {}
        widths: dict[str, tuple[int, bool]] = {}
        ids: list[tuple[str, QueryIds]] = []
        for name in sorted(channels, key=lambda name: (name != "train", name)):
            parts: list[Floats] = []
            for batch in channels[name].batches():
                if batch.labels is not None:
                    parts.append(batch.labels.copy())  # a view may keep the whole batch alive
                if batch.query_ids is not None:
                    ids.append((name, batch.query_ids.copy()))
                is_sparse = isinstance(batch.features, SparseRows)
                widest = max(batch.n_features, widths[name][0] if name in widths else 0)
                widths[name] = (widest, is_sparse)
            labels[name] = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
        width = max((width for width, _ in widths.values()), default=0)
        for name, (own, is_sparse) in widths.items():
            if own != width and not is_sparse:
                raise ChannelError(
                    f"channel {name!r} has {own} feature columns where another has {width}; give "
                    "all of them the same columns"
                )
        n_rows = sum(map(len, labels.values()))
        return cls(tuple(channels[name] for name in labels), labels, width, _lists(ids, n_rows))

    @property
    def all_labels(self) -> Floats:
        """Float32 `[n_rows]`."""
        return np.concatenate(list(self.labels.values()))


@dataclass(slots=True)
class Fold:
    """Subset of the records; see `container.algorithms.training_contract.Channel`."""

    name: str
    records: Records
    is_in: Mask = field(repr=False)  # [n_rows]

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the feature columns of `train`."""
        return self.records.channels[0].feature_names

    @property
    def border_query_ids(self) -> tuple[int, ...]:
        """Empty: folds are on one host."""
        return ()

    def batches(self) -> Iterator[Batch]:
        """Read the records of the subset, in their order."""
        start = 0
        for channel in self.records.channels:
            for batch in channel.batches():
                span = slice(start, start + batch.n_rows)
                chosen = self.is_in[span]
                start = span.stop
                if chosen.any():
                    # Two channels may have a query id in common: lists have a number for all.
                    lists = None if self.records.lists is None else self.records.lists[span]
                    batch = replace(batch, query_ids=lists)
                    yield _choose(batch, chosen, self.records.n_features)


def deal(
    labels: Floats,
    n_folds: int,
    *,
    is_stratified: bool,
    random: np.random.Generator,
    lists: QueryIds | None = None,
) -> NDArray[np.int64]:
    """Return the random fold of each record; sizes differ by one at most.

    Args:
        labels: Float32 `[n_rows]`.
        n_folds: At most `n_rows`, or as many as there are lists.
        is_stratified: True to spread every class evenly, too.
        random: Random generator.
        lists: The number of each record's list, `[n_rows]` from 0. Lists are dealt out whole then,
            and classes are not spread.
    """
    if lists is not None:
        folds_of_lists = random.permutation(int(lists[-1]) + 1) % n_folds
        return folds_of_lists[lists]
    order = random.permutation(len(labels))
    if is_stratified:
        order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % n_folds
    return folds


def _choose(batch: Batch, chosen: Mask, n_features: int) -> Batch:
    return Batch(
        features=_sparse_rows(batch.features, chosen, n_features)
        if isinstance(batch.features, SparseRows)
        else batch.features[chosen],
        labels=None if batch.labels is None else batch.labels[chosen],
        weights=None if batch.weights is None else batch.weights[chosen],
        query_ids=None if batch.query_ids is None else batch.query_ids[chosen],
    )


def _lists(ids: Sequence[tuple[str, QueryIds]], n_rows: int) -> QueryIds | None:
    """Return the number of each record's list, from 0; None without query ids.

    Args:
        ids: Channel and query ids of each batch.
        n_rows: Records of all batches.
    Raises:
        ChannelError: only some channels have query ids.
    """
    if not ids:
        return None
    starts: list[Mask] = []
    before: tuple[str, int] | None = None  # the channel and the query id of the last record
    for name, query_ids in ids:
        is_first_new = (name, int(query_ids[0])) != before
        starts.append(np.append(is_first_new, query_ids[1:] != query_ids[:-1]))
        before = (name, int(query_ids[-1]))
    lists = np.cumsum(np.concatenate(starts)) - 1
    if len(lists) < n_rows:
        raise ChannelError("only some channels have query ids; give all records one, or none")
    return lists


def _sparse_rows(rows: SparseRows, chosen: Mask, n_features: int) -> SparseRows:
    lengths = np.diff(rows.offsets)
    is_kept = np.repeat(chosen, lengths)
    return SparseRows(
        offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]).astype(np.int64),
        columns=rows.columns[is_kept],
        values=rows.values[is_kept],
        n_columns=n_features,
    )
