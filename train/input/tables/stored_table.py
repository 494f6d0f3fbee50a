"""Channel of records that are a table, or whose labels are classes: read whole, kept in memory."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from container import content_types
from container.codecs.records import Columns
from container.codecs.table import cells, decoders
from container.codecs.table.cells import Cells
from container.codecs.table.table import Examples, Table, described
from container.errors import ChannelError, MalformedPayloadError
from container.schema import Kind, Schema
from train.input.channel import Origin
from train.input.sources import Stream
from train.input.tables.table_schema import TableSchema

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class StoredTable:
    """See `container.algorithms.training_contract.TableChannel`."""

    name: str
    origin: Origin
    parameters: Mapping[str, str]  # of the channel's content type
    columns: Columns
    schema: TableSchema  # the same for all channels of a job
    takes_missing: bool  # the algorithm does, among the features
    _parts: list[tuple[str, Cells]] = field(default_factory=list, init=False)
    _examples: Examples | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.schema.channels.append(self)

    def read(self) -> Examples:
        """Read all records; see `TableChannel.read`."""
        schema = self.schema.decide()
        if self._examples is None:
            tables = [self._typed(source, part, schema) for source, part in self._parts]
            self._parts.clear()
            self._examples = self._checked(_joined(tables))
        return self._examples

    def load(
        self, names: tuple[str, ...] | None
    ) -> tuple[tuple[Kind, ...], tuple[str, ...] | None]:
        """Read the cells of all sources; returns the kinds of the columns, and their names.

        Args:
            names: Of the columns of the job's first channel, if that was read and has names.
        """
        kinds: tuple[Kind, ...] = ()
        for source in self.origin.sources():
            with contextlib.closing(Stream(source)) as stream:
                if not stream.head:
                    continue
                part = self._read(source.name, stream, names)
            names = names or part.names
            own = self._located(source.name, partial(cells.kinds, part))
            kinds = kinds or own
            if len(own) != len(kinds):
                raise self._error(source.name, f"{len(own)} columns where others have {len(kinds)}")
            kinds = tuple(
                "text" if "text" in pair else "number" for pair in zip(kinds, own, strict=True)
            )
            self._parts.append((source.name, part))
        if not kinds:
            raise ChannelError(f"channel {self.name!r} holds no records: there is nothing in it")
        if len(kinds) <= self.columns.n_leading:
            raise ChannelError(
                f"channel {self.name!r} has {len(kinds)} columns, of which the label takes "
                f"{self.columns.n_leading}: no features are left"
            )
        return kinds, names

    def _read(self, source: str, stream: Stream, names: tuple[str, ...] | None) -> Cells:
        content_type = self.origin.content_type or content_types.CSV
        try:
            body = stream.raw.read()
        except (OSError, EOFError) as error:
            raise self._error(source, f"cannot be read: {error}") from error
        part = self._located(source, lambda: decoders.read(body, content_type, self.parameters))
        if names is None or part.names is None or part.names == names:
            return part
        return self._located(source, lambda: cells.in_order(part, names))

    def _typed(self, source: str, part: Cells, schema: Schema) -> Table:
        return self._located(source, lambda: cells.table(part, schema))

    def _checked(self, table: Table) -> Examples:
        """Split the label off; raises `ChannelError` for a value that is missing."""
        n_leading = self.columns.n_leading
        names = table.names[n_leading:] if table.names is not None else None
        records = replace(table, columns=table.columns[n_leading:], names=names)
        labels = table.columns[0] if n_leading else None
        missing = None if labels is None else Table((labels,)).first_missing()
        if missing is not None:
            raise ChannelError(
                f"channel {self.name!r}, record {missing[0] + 1}: the label is missing; every "
                "record needs one"
            )
        missing = None if self.takes_missing else records.first_missing()
        if missing is not None:
            where = described(table.names, n_leading + missing[1])
            raise ChannelError(
                f"channel {self.name!r}, record {missing[0] + 1}, {where}: the value is missing, "
                "and the algorithm needs one; fill it in, or leave the record out"
            )
        return Examples(records, labels)

    def _located(self, source: str, work: Callable[[], T]) -> T:
        """Do the work, and add the source to the error of a codec."""
        try:
            return work()
        except MalformedPayloadError as error:
            raise self._error(source, error.message) from error

    def _error(self, source: str, problem: str) -> ChannelError:
        return ChannelError(f"channel {self.name!r}, {source}: {problem}")


def _joined(tables: Sequence[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    columns = zip(*(table.columns for table in tables), strict=True)
    return Table(tuple(np.concatenate(each) for each in columns), tables[0].names)
