"""Column order of a job: the names of its first table, the same on all hosts."""

from collections.abc import Sequence

from container.algorithms.training_contract import Cluster
from container.codecs import column_names


class ColumnOrder:
    """Names of the columns of the first table of a job; all other tables are reordered to match.

    With several hosts the first table is that of the first host that has one: each host has other
    files, and the label must be the same column on all.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._whose = "the first Parquet file of the job"
        self.names: tuple[str, ...] | None = None  # label and weight included

    def agree(self, own: Sequence[str] | None) -> None:
        """Agree on the order with the other hosts, unless that is done. Every host must call it
        equally often.

        Args:
            own: The names in this host's first table, or None where it has none with names.
        """
        if self.names is not None:
            return
        has_names = self._cluster.gather(own is not None)
        if not any(has_names):
            return
        first = has_names.index(True)  # only its names travel: they may be many
        gathered = self._cluster.gather(own if first == self._cluster.rank else None)
        self.names = tuple(gathered[first])
        if len(self._cluster.hosts) > 1:
            self._whose = f"the first Parquet file of host {self._cluster.hosts[first]!r}"

    def places(self, names: Sequence[str]) -> list[int]:
        """Return the index, from 0, of each column of the job in a table with these names.

        Raises:
            MalformedPayloadError: a name is missing, unknown, or occurs twice.
        """
        return column_names.for_job(names, self.names or names, self._whose)
