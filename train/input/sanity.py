"""Warnings about records that are valid and probably a mistake.

A delimiter at the end of every line makes one more column, which is always missing. A table that
pandas wrote without names has a first line `0,1,2,…`. A table that pandas wrote with its index has
the index in place of the label. None of this is an error, so each is logged, once a channel.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.algorithms.training_contract import Cluster
from container.codecs.csv.csv_diagnosis import FOR_PANDAS
from container.codecs.records import Batch, Floats, SparseRows

logger = logging.getLogger(__name__)

# Fewer records may have any pattern by chance.
_LEAST_RECORDS = 10
# A line that counts is taken for a header from this width on: that of a record might, by chance.
_LEAST_WIDTH_FROM_0 = 3
_LEAST_WIDTH = 5
_LARGEST_INTEGER = 2**24  # from which on floats of 32 bits do not count in steps of 1
_MAX_COLUMNS = 10_000  # sent to the other hosts
_MAX_LISTED = 10


@dataclass(slots=True)
class _Findings:
    """Facts that hold for all records of one host; JSON holds them."""

    n_rows: int = 0
    empty_columns: list[int] = field(default_factory=list)  # of the features, from 0
    label_counts: bool = True  # each label of a source is its predecessor plus 1
    longest_count: int = 0  # records of one source in which it does
    header: str | None = None  # the first source whose first line counts


class Sanity:
    """Heuristics over the records of a channel, fed batch by batch; each value is read once."""

    def __init__(self) -> None:
        self._found = _Findings()
        self._empty: NDArray[np.intp] | None = None  # none of them had a value so far
        self._last_label = np.nan
        self._n_counted = 0  # records of this source

    def add(self, batch: Batch, source: str, *, is_first: bool, is_csv: bool) -> None:
        """Take the next records.

        Args:
            batch: At least one record.
            source: Name of the file or FIFO.
            is_first: True for the first records of the source.
            is_csv: True if a line may be a header.
        """
        if not isinstance(batch.features, SparseRows):
            self._note_empty_columns(batch.features)
            if is_csv and is_first and not self._found.header:
                leading = [each for each in (batch.labels, batch.weights) if each is not None]
                self._found.header = source if _has_header(batch.features, leading) else None
        if self._found.label_counts:
            self._note_labels(batch.labels, is_first=is_first)
        self._found.n_rows += batch.n_rows

    def _note_empty_columns(self, rows: Floats) -> None:
        if self._empty is None:
            self._empty = np.flatnonzero(np.isnan(rows[0]))
        if len(self._empty):
            self._empty = self._empty[np.isnan(rows[:, self._empty]).all(axis=0)]

    def _note_labels(self, labels: Floats | None, *, is_first: bool) -> None:
        if is_first:
            self._n_counted = 0
        elif self._last_label >= _LARGEST_INTEGER:
            return
        follows = labels is not None and (is_first or labels[0] == self._last_label + 1)
        if labels is None or not follows or not _counts(labels[labels < _LARGEST_INTEGER]):
            self._found.label_counts = False
            return
        self._last_label = float(labels[-1])
        self._n_counted += len(labels)
        self._found.longest_count = max(self._found.longest_count, self._n_counted)

    def warn(self, channel: str, called: Callable[[int], str | int], hosts: Cluster) -> None:
        """Log on the first host what holds for the records of all hosts. Every host must call it
        after it has read the channel.

        Args:
            channel: Name of the channel.
            called: Returns the name or the number of a feature column, counted from 0.
            hosts: Hosts of the job.
        """
        if self._empty is not None:
            self._found.empty_columns = self._empty[:_MAX_COLUMNS].tolist()
        gathered = [_Findings(**each) for each in hosts.gather(asdict(self._found))]
        found = [each for each in gathered if each.n_rows]
        if hosts.rank or sum(each.n_rows for each in found) < _LEAST_RECORDS:
            return
        for event, facts in _warnings(found, called):
            logger.warning(event, extra={"channel": channel} | facts)


def _warnings(
    found: Sequence[_Findings], called: Callable[[int], str | int]
) -> list[tuple[str, dict[str, Any]]]:
    warnings: list[tuple[str, dict[str, Any]]] = []
    empty = sorted(set.intersection(*(set(each.empty_columns) for each in found)))
    if empty:
        listed = [called(column) for column in empty[:_MAX_LISTED]]
        reason = (
            "no record has a value there: nothing is learned from it, and requests need it, too; "
            "leave it out, and so a delimiter at the end of every line"
        )
        facts = {"columns": listed, "n_columns": len(empty), "reason": reason}
        warnings.append(("column_without_values", facts))
    headers = [each.header for each in found if each.header]
    if headers:
        reason = (
            "its cells count up by 1, and those of the next line do not; if it is a header, leave "
            f"it out {FOR_PANDAS}"
        )
        warnings.append(("first_line_may_be_a_header", {"source": headers[0], "reason": reason}))
    longest = max(each.longest_count for each in found)
    if longest >= _LEAST_RECORDS and all(each.label_counts for each in found):
        reason = (
            "the first column, which is the label, counts up by 1 from record to record; if it is "
            f"an index, leave it out {FOR_PANDAS}"
        )
        warnings.append(("label_may_be_an_index", {"reason": reason}))
    return warnings


def _has_header(features: Floats, leading: Sequence[Floats]) -> bool:
    """True if the first line counts up by 1 and the second does not."""
    if len(features) < 2:
        return False
    first, second = (
        np.concatenate([[column[number] for column in leading], features[number]])
        for number in (0, 1)
    )
    least_width = _LEAST_WIDTH if first[0] else _LEAST_WIDTH_FROM_0
    return len(first) >= least_width and _counts(first) and not _counts(second)


def _counts(numbers: Floats) -> bool:
    return bool((np.diff(numbers) == 1).all())
