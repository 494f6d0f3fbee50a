"""Check that the records of each ranking list, which share a query id, are contiguous."""

import numpy as np

from container.codecs.records import QueryIds


class ListOrder:
    """Lists of one channel, fed batch by batch."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._last: int | None = None

    def first_torn(self, query_ids: QueryIds) -> int | None:
        """Take the next records, and return the index of the first one whose list had ended.

        XGBoost would take the two parts for two lists.
        """
        is_start = np.append(query_ids[0] != self._last, query_ids[1:] != query_ids[:-1])
        for index in np.flatnonzero(is_start):
            query_id = int(query_ids[index])
            if query_id in self._ids:
                return int(index)
            self._ids.add(query_id)
        self._last = int(query_ids[-1])
        return None
