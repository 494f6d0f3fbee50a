"""Channel of a job: its records are read and parsed once, then kept in a `RecordStore`.

A FIFO can be read only once, and XGBoost passes over the records five times before it trains.
Column numbers of libsvm are stored as written and shifted to count from 0 when they are read back:
only after all records are read is it known if they count from 1.
"""

import contextlib
import errno
import itertools
import logging
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from container import content_types
from container.algorithms.training_contract import Cluster
from container.codecs import diagnosis
from container.codecs.csv.csv_diagnosis import FOR_PANDAS
from container.codecs.records import Batch, Columns, Floats, SparseRows
from container.errors import ChannelError, MalformedPayloadError, counted
from train.input.column_order import ColumnOrder
from train.input.libsvm_base import LibsvmBase
from train.input.list_order import ListOrder
from train.input.parsing import native_reader, parallel_parser, parquet_stream
from train.input.parsing.chunks import Chunk, cut
from train.input.progress import Loading
from train.input.record_store import RecordStore
from train.input.sanity import Sanity
from train.input.scratch import Scratch
from train.input.sources import Source, Stream

logger = logging.getLogger(__name__)

_LINE_FORMATS = (content_types.CSV, content_types.LIBSVM, content_types.JSON_LINES)


@dataclass(frozen=True, slots=True)
class Origin:
    """Sources of a channel's bytes, and how to read them."""

    sources: Callable[[], Iterator[Source]]  # called anew for each reading of the channel
    content_type: str | None  # None: recognised by the first bytes
    check_type: Callable[[str], None]  # raises ChannelError for an unsupported type
    may_be_empty: bool  # a shard of this host may hold no records


@dataclass(frozen=True, slots=True)
class _Part:
    """Batch with its position in a source."""

    source: str
    n_before: int  # records of the source before this batch
    n_bytes: int
    batch: Batch


@dataclass(slots=True)
class StoredChannel:
    """A channel as algorithms see it; see `container.algorithms.training_contract.Channel`."""

    name: str
    origin: Origin
    columns: Columns
    scratch: Scratch
    n_processes: int
    column_order: ColumnOrder  # the same for all channels of a job
    libsvm_base: LibsvmBase  # the same for all channels of a job
    hosts: Cluster
    feature_names: tuple[str, ...] | None = field(default=None, init=False)
    _store: RecordStore | None = field(default=None, init=False)
    _has_agreed: bool = field(default=False, init=False)  # with the other hosts, on the columns
    _has_agreed_on_format: bool = field(default=False, init=False)
    _is_csv: bool = field(default=False, init=False)
    _is_libsvm: bool = field(default=False, init=False)
    _lowest_column: int | None = field(default=None, init=False)
    _border_query_ids: set[int] = field(default_factory=set, init=False)
    _record: str = field(default="record", init=False)  # or "line": the word for messages

    def __post_init__(self) -> None:
        self.libsvm_base.channels.append(self)

    def batches(self) -> Iterator[Batch]:
        """Read all records; from the second call on, from the store.

        If any channel of the job may be libsvm, the first call reads all channels to their ends.

        An iteration that stops early stores nothing. The next one begins anew: in Pipe mode, at
        the FIFO of the next epoch.

        Raises:
            ChannelError: naming the source and the line or the record that cannot be read.
        """
        self.libsvm_base.decide()
        if self._store is None:
            yield from self._read_and_keep()
            return
        for batch in self._store.batches():
            yield self._counted_from_0(batch)

    @property
    def border_query_ids(self) -> list[int]:
        """See `container.algorithms.training_contract.Channel`."""
        return sorted(self._border_query_ids) if self.origin.may_be_empty else []

    @property
    def may_be_libsvm(self) -> bool:
        """See `train.input.libsvm_base.Countable`."""
        return self.origin.content_type in (None, content_types.LIBSVM)

    @property
    def lowest_column(self) -> int | None:
        """See `train.input.libsvm_base.Countable`."""
        return self._lowest_column

    def load(self) -> None:
        """See `train.input.libsvm_base.Countable`."""
        if self._store is None:
            for _ in self._read_and_keep():
                pass

    def _counted_from_0(self, batch: Batch) -> Batch:
        rows = batch.features
        if not (self._is_libsvm and self.libsvm_base.value and isinstance(rows, SparseRows)):
            return batch
        n_columns = max(0, rows.n_columns - 1)
        return replace(batch, features=replace(rows, columns=rows.columns - 1, n_columns=n_columns))

    def _read_and_keep(self) -> Iterator[Batch]:
        store = RecordStore(self.scratch)
        self._lowest_column = None
        self._border_query_ids.clear()
        try:
            loading, sanity = Loading(self.name, store), Sanity()
            for batch in self._read(loading, sanity):
                store.append(batch)
                yield batch
            store.flush()
            loading.finish()
            called = self.feature_names.__getitem__ if self.feature_names else self.columns.number
            sanity.warn(self.name, called, self.hosts)
        except BaseException:  # also GeneratorExit, when the caller stops early
            store.close()
            raise
        self._store = store

    def _read(self, loading: Loading, sanity: Sanity) -> Iterator[Batch]:
        first: _Part | None = None
        before: _Part | None = None
        lists = ListOrder()
        with contextlib.closing(self._parts()) as parts:
            for part in parts:
                first = first or part
                self._check(part, first)
                self._check_lists(part, first, lists)
                self._note_border(before, part)
                before = part
                loading.add(part.batch.n_rows, part.n_bytes)
                self._note_lowest_column(part.batch.features)
                sanity.add(part.batch, part.source, is_first=not part.n_before, is_csv=self._is_csv)
                yield part.batch
        self._note_border(before, None)
        if first is None and not self.origin.may_be_empty:
            raise ChannelError(f"channel {self.name!r} holds no records: there is nothing in it")

    def _note_border(self, before: _Part | None, part: _Part | None) -> None:
        """Keep the query ids on both sides of a border between files, and at both ends."""
        if before is not None and part is not None and before.source == part.source:
            return
        if before is not None and before.batch.query_ids is not None:
            self._border_query_ids.add(int(before.batch.query_ids[-1]))
        if part is not None and part.batch.query_ids is not None:
            self._border_query_ids.add(int(part.batch.query_ids[0]))

    def _note_lowest_column(self, rows: Floats | SparseRows) -> None:
        if self._is_libsvm and isinstance(rows, SparseRows) and len(rows.columns):
            found = int(rows.columns.min())
            lowest = self._lowest_column
            self._lowest_column = found if lowest is None else min(found, lowest)

    def _parts(self) -> Generator[_Part, None, None]:
        """Yield all batches, in any format."""
        with contextlib.closing(self._streams()) as streams:
            first = next(streams, None)
            content_type = None
            if first is not None:
                content_type = self.origin.content_type or self._recognise(*first)
            self._agree_on_format(content_type)
            if content_type != content_types.PARQUET:
                self._agree(None)
            if first is None or content_type is None:
                return
            self._record = "line" if content_type in _LINE_FORMATS else "record"
            self._is_csv = content_type == content_types.CSV
            self._is_libsvm = content_type == content_types.LIBSVM
            rest = itertools.chain([first], streams)
            if content_type == content_types.PARQUET:
                yield from self._tables(rest)
            else:
                yield from self._parsed(rest, content_type)

    def _agree_on_format(self, recognised: str | None) -> None:
        """Refuse formats that differ between hosts; a declared one is the same on all."""
        if self.origin.content_type is not None or self._has_agreed_on_format:
            return
        self._has_agreed_on_format = True
        hosts: dict[str, str] = {}  # by format, the first one
        for rank, content_type in enumerate(self.hosts.gather(recognised)):
            if content_type is not None:
                hosts.setdefault(content_type, self.hosts.hosts[rank])
        if len(hosts) > 1:
            found = " and ".join(f"{name} on host {host!r}" for name, host in hosts.items())
            raise ChannelError(
                f"channel {self.name!r} holds {found}; give all hosts files of one format, and set "
                "ContentType if one is taken for another"
            )

    def _agree(self, names: Sequence[str] | None) -> None:
        """Agree with the other hosts on the columns, at the first table or without one."""
        if self._has_agreed:
            return
        self._has_agreed = True
        self.column_order.agree(names)
        if self.column_order.names is not None:
            self.feature_names = self.columns.features_of(self.column_order.names)

    def _streams(self) -> Generator[tuple[str, Stream], None, None]:
        """Yield the sources; each is open until the next one is requested."""
        for source in self.origin.sources():
            with self._reading(source.name), contextlib.closing(Stream(source)) as stream:
                if stream.head:
                    yield source.name, stream

    def _recognise(self, source: str, stream: Stream) -> str | None:
        content_type = stream.content_type()
        if content_type is not None:
            self.origin.check_type(content_type)
            facts = {"channel": self.name, "source": source, "content_type": content_type}
            logger.info("content_type_recognised", extra=facts)
        return content_type

    def _parsed(self, streams: Iterator[tuple[str, Stream]], content_type: str) -> Iterator[_Part]:
        chunks = self._chunks(streams, content_type)
        results = parallel_parser.parse(
            chunks, content_type, self.columns, n_processes=self.n_processes
        )
        with contextlib.closing(chunks), contextlib.closing(results):
            for chunk, result in results:
                if isinstance(result, MalformedPayloadError):
                    raise self._located(result, chunk.source, chunk.n_before) from result
                yield _Part(chunk.source, chunk.n_before, len(chunk.data), result)

    def _chunks(
        self, streams: Iterator[tuple[str, Stream]], content_type: str
    ) -> Generator[Chunk, None, None]:
        for source, stream in streams:
            chunks = cut(stream.raw, content_type, source)
            while True:
                with self._reading(source):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                if not chunk.data.isspace():  # blank lines at the end of a file are no records
                    yield chunk

    def _tables(self, streams: Iterator[tuple[str, Stream]]) -> Iterator[_Part]:
        for source, stream in streams:
            batches = parquet_stream.batches(stream, self.columns, self.scratch, self._indices)
            n_rows = 0
            while True:
                try:
                    with self._reading(source), native_reader.reading(self.name, source):
                        batch = next(batches, None)
                except MalformedPayloadError as error:
                    explained = diagnosis.explained(error, stream.head, content_types.PARQUET)
                    raise self._located(explained, source, 0) from error
                if batch is None:
                    break
                n_bytes = batch.n_rows * (batch.n_features + self.columns.n_others) * 4
                yield _Part(source, n_rows, n_bytes, batch)
                n_rows += batch.n_rows

    def _indices(self, names: Sequence[str]) -> list[int]:
        self._agree(names)
        return self.column_order.places(names)

    def _check(self, part: _Part, first: _Part) -> None:
        """Refuse a missing label, a bad weight, and another form than the first record has.

        What a sparse record leaves out is missing, and a zero of a dense one is not: together they
        would be neither.
        """
        batch = part.batch
        forms = [
            "sparse" if isinstance(each.batch.features, SparseRows) else "dense"
            for each in (part, first)
        ]
        if forms[0] != forms[1]:
            raise self._error(
                part.source,
                f"{self._record} {part.n_before + 1}: {forms[0]} where {first.source} is "
                f"{forms[1]}; give all records the same form",
            )
        if not isinstance(batch.features, SparseRows):
            n_columns = batch.n_features + self.columns.n_others
            expected = first.batch.n_features + self.columns.n_others
            if n_columns != expected:
                raise self._error(
                    part.source,
                    f"{self._record} {part.n_before + 1}: {counted(n_columns, 'column')} where "
                    f"{first.source} has {expected}",
                )
        labels, weights = batch.labels, batch.weights
        if labels is not None and not np.isfinite(labels).all():
            problem = "the label is missing; every record needs one"
            if self._record == "line" and not part.n_before and not np.isfinite(labels[0]):
                problem += f"; if the line is a header, leave it out {FOR_PANDAS}"
            raise self._error_at(part, np.isfinite(labels), problem)
        if weights is not None and not (np.isfinite(weights) & (weights >= 0)).all():
            problem = "the weight must be a number that is not negative"
            raise self._error_at(part, np.isfinite(weights) & (weights >= 0), problem)

    def _check_lists(self, part: _Part, first: _Part, lists: ListOrder) -> None:
        """Refuse records without query id among those with one, and a list in several pieces."""
        query_ids, others = part.batch.query_ids, first.batch.query_ids
        if (query_ids is None) is not (others is None):
            own, other = ("a query id", "has none")
            if query_ids is None:
                own, other = ("no query id", "has some")
            raise self._error(
                part.source,
                f"{self._record} {part.n_before + 1}: {own} where {first.source} {other}; "
                "write qid:N after each label of a channel, or after none",
            )
        torn = None if query_ids is None else lists.first_torn(query_ids)
        if query_ids is not None and torn is not None:
            raise self._error(
                part.source,
                f"{self._record} {part.n_before + torn + 1}: query id {query_ids[torn]} comes "
                "again after another one; put the records of a list next to each other",
            )

    def _error_at(
        self, part: _Part, is_good: np.ndarray[tuple[int], np.dtype[np.bool_]], problem: str
    ) -> ChannelError:
        number = part.n_before + int(np.argmin(is_good)) + 1
        return self._error(part.source, f"{self._record} {number}: {problem}")

    def _located(self, error: MalformedPayloadError, source: str, n_before: int) -> ChannelError:
        """Add the position in the source to the error of a codec, which knows only its chunk."""
        number = error.line or error.record
        where = "" if number is None else f"{self._record} {n_before + number}"
        if number is not None and error.column is not None:
            where += f", column {error.column}"
        return self._error(source, f"{where}: {error.problem}" if where else error.problem)

    @contextlib.contextmanager
    def _reading(self, source: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:  # of the job's own temporary files
                raise
            reason = getattr(error, "strerror", None) or error
            raise self._error(source, f"cannot be read: {reason}") from error

    def _error(self, source: str, problem: str) -> ChannelError:
        return ChannelError(f"channel {self.name!r}, {source}: {problem}")
