"""The columns of a job's tables: their kinds and names, the same in all channels."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from container.errors import ChannelError
from container.schema import Kind, Schema

logger = logging.getLogger(__name__)

_MAX_SHOWN = 20  # columns in the log


class Loadable(Protocol):
    """A channel as the schema sees it."""

    name: str

    def load(
        self, names: tuple[str, ...] | None
    ) -> tuple[tuple[Kind, ...], tuple[str, ...] | None]:
        """See `train.input.tables.stored_table.StoredTable.load`."""


@dataclass(slots=True)
class TableSchema:
    """The columns of all channels of a job, label included; decided when the first is read."""

    channels: list[Loadable] = field(default_factory=list)
    decided: Schema | None = None

    def decide(self) -> Schema:
        """Read all channels, and return the schema that suits them all.

        Raises:
            ChannelError: a channel cannot be read, or its columns are not those of the first.
        """
        if self.decided is None:
            kinds: tuple[Kind, ...] = ()
            names: tuple[str, ...] | None = None
            first = self.channels[0]
            for channel in self.channels:
                own, own_names = channel.load(names)
                if not kinds:
                    kinds, names = own, own_names
                elif len(own) != len(kinds):
                    raise ChannelError(
                        f"channel {channel.name!r} has {len(own)} columns where {first.name!r} has "
                        f"{len(kinds)}; give both the same columns"
                    )
                kinds = tuple(
                    "text" if "text" in pair else "number" for pair in zip(kinds, own, strict=True)
                )
            self.decided = Schema.of(kinds, names)
            shown = ", ".join(self.decided.kinds[:_MAX_SHOWN])
            logger.info("columns_recognised", extra={"n_columns": len(kinds), "kinds": shown})
        return self.decided
