"""Index base of libsvm, 0 or 1, for all records of a job (C-101).

The format counts from 1 by convention, XGBoost from 0. Nothing in a record tells them apart, so the
job looks at all records of all channels on all hosts: where no column is 0 they count from 1.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal, Protocol

from container.errors import ChannelError

logger = logging.getLogger(__name__)

Base = Literal[0, 1]


class Countable(Protocol):
    """Channel that may hold libsvm."""

    @property
    def may_be_libsvm(self) -> bool:
        """True if the format is libsvm, or unknown before the channel is read."""

    @property
    def lowest_column(self) -> int | None:
        """Lowest column number of its libsvm records as written; None if there are none."""

    def load(self) -> None:
        """Read and keep all records, unless that was done before."""


class LibsvmBase:
    """Index base of a job: unknown until `decide`, equal for all channels and hosts."""

    def __init__(self, gather: Callable[[Any], list[Any]] = lambda value: [value]) -> None:
        """Prepare to decide.

        Args:
            gather: Exchanges values with the other hosts; see
                `container.algorithms.training_contract.Cluster`.
        """
        self.value: Base | None = None  # None also where no record is libsvm
        self.channels: list[Countable] = []  # of the job, in the order in which they are read
        self._gather = gather
        self._is_decided = False
        self._is_resumed = False

    def restore(self, value: Base | None) -> None:
        """Adopt the base of the job that made a checkpoint.

        The model of the checkpoint may be saved before any record is read.

        Raises:
            ChannelError: the records that were read already have the other base.
        """
        if self._is_decided:
            _refuse_other(self.value, value)
            return
        self.value = value
        self._is_resumed = True

    def decide(self) -> None:
        """Read the channels if any may be libsvm, and decide together with the other hosts.

        Every host of the job must call it. Only the first call that succeeds does anything.

        Raises:
            ChannelError: a channel cannot be read, or a checkpoint was made with the other base.
        """
        if self._is_decided:
            return
        if any(channel.may_be_libsvm for channel in self.channels):
            for channel in self.channels:
                channel.load()
        found = (channel.lowest_column for channel in self.channels)
        own = min((lowest for lowest in found if lowest is not None), default=None)
        lowest = [column for column in self._gather(own) if column is not None]
        value: Base | None = None
        if lowest:
            value = 0 if min(lowest) == 0 else 1
            logger.info("libsvm_base_decided", extra={"libsvm_base": value})
        if self._is_resumed:
            _refuse_other(value, self.value)
        self.value = value
        self._is_decided = True


def _refuse_other(of_records: Base | None, of_checkpoint: Base | None) -> None:
    # Checkpoints of earlier versions do not say it; their libsvm columns count from 0.
    if (of_records or 0) != (of_checkpoint or 0):
        raise ChannelError(
            f"libsvm columns count from {of_records or 0}, and from {of_checkpoint or 0} in the "
            "job that made the checkpoints; remove the checkpoints to begin anew"
        )
