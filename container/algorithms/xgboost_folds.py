"""Records dealt out into folds, without a copy of them: each channel is read through a mask."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from container.algorithms.base import Channel
from container.codecs.base import Batch, Floats, SparseRows
from container.errors import ChannelError

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Records:
    """The records of all channels, `train` first, as one sequence."""

    channels: tuple[Channel, ...]
    labels: Mapping[str, Floats]  # by channel, float32 [n_rows]
    n_features: int

    @classmethod
    def survey(cls, channels: Mapping[str, Channel]) -> "Records":
        """Read everything once.

        Raises:
            ChannelError: two channels differ in their columns.
        """
        labels: dict[str, Floats] = {}
        widths: dict[str, tuple[int, bool]] = {}
        for name in sorted(channels, key=lambda name: (name != "train", name)):
            parts: list[Floats] = []
            for batch in channels[name].batches():
                if batch.labels is not None:
                    parts.append(batch.labels.copy())  # a view may keep the whole batch alive
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
        return cls(tuple(channels[name] for name in labels), labels, width)

    @property
    def all_labels(self) -> Floats:
        """Float32 `[n_rows]`."""
        return np.concatenate(list(self.labels.values()))


@dataclass(slots=True)
class Fold:
    """Some of the records; see `container.algorithms.base.Channel`."""

    name: str
    records: Records
    is_in: Mask = field(repr=False)  # [n_rows]

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Those of the channels, `train` first."""
        return self.records.channels[0].feature_names

    def batches(self) -> Iterator[Batch]:
        """Read the records that are in, in their order."""
        start = 0
        for channel in self.records.channels:
            for batch in channel.batches():
                chosen = self.is_in[start : start + batch.n_rows]
                start += batch.n_rows
                if chosen.any():
                    yield _choose(batch, chosen, self.records.n_features)


def deal(
    labels: Floats, n_folds: int, *, is_stratified: bool, random: np.random.Generator
) -> NDArray[np.int64]:
    """The fold of each record, at random; sizes differ by one at most.

    Args:
        labels: Float32 `[n_rows]`.
        n_folds: At most `n_rows`.
        is_stratified: Whether every class is spread evenly, too.
        random: Where the randomness comes from.
    """
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
    )


def _sparse_rows(rows: SparseRows, chosen: Mask, n_features: int) -> SparseRows:
    lengths = np.diff(rows.offsets)
    is_kept = np.repeat(chosen, lengths)
    return SparseRows(
        offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]).astype(np.int64),
        columns=rows.columns[is_kept],
        values=rows.values[is_kept],
        n_columns=n_features,
    )
