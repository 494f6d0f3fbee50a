"""Agreement of the hosts on their data before they train: each knows only its own records.

One class on one host is fine if there are two in all; a host without any records takes part with
empty matrices, since XGBoost's hosts wait for each other in every round.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce

import xgboost

from container.algorithms.training_contract import Cluster
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.errors import ChannelError, ContainerError, TrainingError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """Facts that one host knows about a channel."""

    n_rows: int
    width: int  # feature columns; of sparse rows the last one that occurs
    is_sparse: bool
    lowest_label: float  # inf if there is no record
    highest_label: float  # -inf if there is no record
    counts: bool  # True if any record has a weight other than 0
    has_lists: bool = False  # True if the records have query ids
    border_query_ids: Collection[int] = ()  # where files end, and the lists may go on elsewhere

    def joined(self, other: "Shard") -> "Shard":
        """Merge the facts of two hosts; the width is the larger one."""
        return Shard(
            n_rows=self.n_rows + other.n_rows,
            width=max(self.width, other.width),
            is_sparse=self.is_sparse or other.is_sparse,
            lowest_label=min(self.lowest_label, other.lowest_label),
            highest_label=max(self.highest_label, other.highest_label),
            counts=self.counts or other.counts,
            has_lists=self.has_lists or other.has_lists,
            border_query_ids=(*self.border_query_ids, *other.border_query_ids),
        )


def agree(
    cluster: Cluster, shards: Mapping[str, Shard], hyperparameters: XGBoostHyperparameters
) -> dict[str, Shard]:
    """All-gather the facts of each host and return the merged facts of each channel.

    Raises, on every host alike:
        ChannelError: the records of the hosts together cannot be learned from, or do not fit.
        TrainingError: the hosts run different versions of XGBoost.
    """
    gathered = cluster.gather(
        {
            "xgboost": xgboost.__version__,
            "channels": {name: asdict(shard) for name, shard in shards.items()},
        }
    )
    _check_same(cluster.hosts, "XGBoost", [host["xgboost"] for host in gathered], TrainingError)
    names = [", ".join(sorted(host["channels"])) for host in gathered]
    _check_same(cluster.hosts, "channels", names, ChannelError)
    by_host = {
        name: [Shard(**host["channels"][name]) for host in gathered] for name in sorted(shards)
    }
    whole = {name: reduce(Shard.joined, parts) for name, parts in by_host.items()}
    for name, shard in whole.items():
        _check_whole(name, shard, hyperparameters, n_hosts=len(gathered))
        _check_forms(cluster.hosts, name, by_host[name])
        _check_widths(cluster.hosts, name, by_host[name], whole["train"].width)
    _check_lists(cluster.hosts, by_host, hyperparameters)
    _check_emptiness(cluster.hosts, by_host["train"], hyperparameters)
    return whole


def _check_same(
    hosts: Sequence[str], what: str, values: Sequence[str], error: type[ContainerError]
) -> None:
    for host, value in zip(hosts, values, strict=True):
        if value != values[0]:
            raise error(
                f"host {host!r} has {what} {value}, host {hosts[0]!r} has {what} {values[0]}; "
                "all hosts of a job need the same"
            )


def _check_whole(
    name: str, shard: Shard, hyperparameters: XGBoostHyperparameters, *, n_hosts: int
) -> None:
    if shard.n_rows == 0:
        raise ChannelError(f"channel {name!r} holds no records on any of {n_hosts} hosts")
    if not shard.counts:
        raise ChannelError(f"channel {name!r}: all weights are 0, so that no record counts")
    is_classifier = (hyperparameters.objective or "").startswith(("binary:", "multi:"))
    if name == "train" and is_classifier and shard.lowest_label == shard.highest_label:
        raise ChannelError(
            f"channel {name!r}: all {shard.n_rows} labels are {shard.lowest_label:g}; "
            "a classifier needs at least two classes"
        )


def _check_forms(hosts: Sequence[str], name: str, shards: Sequence[Shard]) -> None:
    """Refuse sparse rows on one host and dense ones on another, as within a host."""
    filled = [(host, shard) for host, shard in zip(hosts, shards, strict=True) if shard.n_rows]
    first, *others = filled
    for host, shard in others:
        if shard.is_sparse is not first[1].is_sparse:
            forms = [("dense", "sparse")[each.is_sparse] for each in (first[1], shard)]
            raise ChannelError(
                f"channel {name!r} has {forms[0]} records on host {first[0]!r} and {forms[1]} ones "
                f"on host {host!r}; give all records the same form"
            )


def _check_widths(hosts: Sequence[str], name: str, shards: Sequence[Shard], width: int) -> None:
    """Refuse another width than that of `train`.

    Sparse rows may be narrower: they are as wide as the last column that occurs.
    """
    for host, shard in zip(hosts, shards, strict=True):
        fits = shard.width == width or (shard.is_sparse and shard.width < width)
        if shard.n_rows and not fits:
            where = f" on host {host!r}" if len(hosts) > 1 else ""
            raise ChannelError(
                f"channel {name!r} has {shard.width} feature columns{where} where 'train' has "
                f"{width}; give both the same columns"
            )


def _check_lists(
    hosts: Sequence[str],
    by_host: Mapping[str, Sequence[Shard]],
    hyperparameters: XGBoostHyperparameters,
) -> None:
    """Refuse lists in only a part of the records; warn if lists are missing or not used."""
    parts = {
        f"channel {name!r}" + (f" on host {host!r}" if len(hosts) > 1 else ""): shard.has_lists
        for name, shards in by_host.items()
        for host, shard in zip(hosts, shards, strict=True)
        if shard.n_rows
    }
    without = [part for part, has_lists in parts.items() if not has_lists]
    if hyperparameters.group_column is not None and without:
        raise ChannelError(
            f"{without[0]} has no query ids, for which the job names a group_column; it is for CSV "
            "and Parquet: in libsvm write qid:N after each label, and recordio-protobuf has none"
        )
    if not hyperparameters.uses_lists:
        if len(without) < len(parts):
            facts = {"reason": "neither objective nor eval_metric looks at lists"}
            logger.warning("query_ids_ignored", extra=facts)
        return
    if 0 < len(without) < len(parts):
        raise ChannelError(
            f"{without[0]} has no query ids where others have some; give all records one, or none"
        )
    for name, shards in by_host.items():
        _check_list_borders(hosts, name, shards)
    if without and hyperparameters.is_ranking:
        remedy = "qid:N after the label in libsvm, the hyperparameter group_column otherwise"
        logger.warning("ranking_without_lists", extra={"list": "a whole channel", "use": remedy})


def _check_list_borders(hosts: Sequence[str], name: str, shards: Sequence[Shard]) -> None:
    owners: dict[int, str] = {}
    for host, shard in zip(hosts, shards, strict=True):
        for query_id in shard.border_query_ids:
            owner = owners.setdefault(query_id, host)
            if owner != host:
                raise ChannelError(
                    f"channel {name!r}: hosts {owner!r} and {host!r} both have records with query "
                    f"id {query_id}; a list must lie on one host: cut files between lists, and "
                    "give no id twice"
                )


def _check_emptiness(
    hosts: Sequence[str], shards: Sequence[Shard], hyperparameters: XGBoostHyperparameters
) -> None:
    empty = [host for host, shard in zip(hosts, shards, strict=True) if not shard.n_rows]
    for host in empty:
        logger.warning("host_without_records", extra={"host": host})
    # It makes XGBoost abort the process (seen in 3.2.0 and 3.4.1).
    if empty and hyperparameters.objective == "rank:map":
        raise ChannelError(
            f"channel 'train' holds no records on {', '.join(empty)}, which objective='rank:map' "
            "does not support; use fewer hosts or more files"
        )
