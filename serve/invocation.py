"""One invocation, without HTTP: decode, predict, encode.

All ways to invoke a model meet here: the ASGI application of one model or many, and the handler of
multi-model-server.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, thread_time
from typing import Any, NamedTuple, Protocol, cast

from numpy.typing import NDArray

from container import codecs, content_types
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities, Model, TableModel, n_outputs
from container.codecs import answers, request_columns
from container.codecs.answers import Answers
from container.codecs.records import Batch, Columns, NamedOutputs, SparseRows
from container.codecs.table import decoders
from container.codecs.table.decoders import TableBatch
from container.codecs.table.table import Table
from container.content_types import MediaType
from container.errors import MalformedPayloadError, UnsupportedContentTypeError
from container.schema import Schema
from serve.runtime import answer_memory, decoder_pool, record_forms, row_parallelism
from serve.runtime.latency import LatencyHeuristic

# Content types as clients write them; more than this number are not remembered.
_MAX_FORMATS = 64


class Invocation(NamedTuple):
    """A client's request. A header that is absent or empty is an empty string."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    headers: Mapping[bytes, bytes] = {}  # as in ASGI; only user code reads them
    request_id: str = ""


class Answer(NamedTuple):
    """The answer to an invocation.

    A body that is a generator is streamed, piece by piece, and closed in the thread that runs it.
    Without a content type there is no body. `stages` are the seconds that decoding, predicting and
    encoding took.
    """

    body: bytes | Generator[bytes, None, None]
    content_type: str = ""
    n_rows: int = 0
    stages: tuple[float, float, float] = (0.0, 0.0, 0.0)
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


EMPTY = Answer(b"", status=204)


class Servable(Protocol):
    """A loaded model that answers invocations."""

    def may_run_inline(self, invocation: Invocation) -> bool:
        """True if the invocation is quick enough for the event loop, where all others wait for it.

        Raises:
            ContainerError: the invocation would be refused.
        """

    @property
    def is_thread_safe(self) -> bool:
        """True if several threads may invoke at once."""

    @property
    def has_own_formats(self) -> bool:
        """True if a body may be in other formats than those of `container.codecs`."""

    @property
    def limits_itself(self) -> bool:
        """True if an invocation ends by itself when its time is over, and holds its thread then."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; raises `ContainerError`, or any exception of user code."""

    def close(self) -> None:
        """Free what is not freed with this object; called in a thread, with no invocation left."""


class RequestFormat(NamedTuple):
    """A content type as one model reads it: parsed and checked once, for all requests with it."""

    name: str
    columns: Columns
    decode: Callable[[bytes, Columns], Batch | TableBatch]
    is_packed: bool  # a small body may hold very many records


@dataclass(slots=True, eq=False)
class ModelServable:
    """A model of an algorithm, invoked in the algorithm's formats."""

    algorithm: Algorithm
    model: Model | TableModel
    default_accept: str  # one of the algorithm's response types
    output_keys: tuple[str, ...] = ()  # the outputs to answer with instead of the score
    is_batch: bool = False  # answers are joined byte by byte
    libsvm_base: int | None = 0  # see `container.codecs.records.Columns`
    schema: Schema | None = None  # of the records, where they are a table
    latency: LatencyHeuristic = field(default_factory=LatencyHeuristic)
    has_own_formats = False
    limits_itself = False
    # Decided once for the model:
    capabilities: Capabilities = field(init=False)
    is_thread_safe: bool = field(init=False)
    _n_outputs: int = field(init=False)
    _answer_types: tuple[str, ...] = field(init=False)
    _predict: Callable[[Any], Answers] = field(init=False)
    _takes_all: bool = field(init=False)
    # Decided once for a content type, by the header's value:
    _formats: dict[str, RequestFormat] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.capabilities = self.algorithm.capabilities
        self.is_thread_safe = self.capabilities.is_thread_safe
        self._n_outputs = n_outputs(self.model)
        self._answer_types = answer_types(self.algorithm, self.output_keys)
        self._predict = self.model.predict
        self._takes_all = self.capabilities.takes_missing and self.capabilities.takes_sparse
        if self.capabilities.predicts_row_blocks and self.schema is None:
            self._predict = partial(row_parallelism.predict, cast(Model, self.model))

    def may_run_inline(self, invocation: Invocation) -> bool:
        # A model that is not thread-safe is invoked in one thread only, never on the event loop.
        return (
            self.latency.is_quick(len(invocation.body))
            and self.is_thread_safe
            and self.capabilities.is_quick
            # The content type of an empty body is never checked (C-058).
            and not (invocation.body and self._format(invocation.content_type).is_packed)
        )

    def close(self) -> None:
        """Do nothing: all memory is freed with this object."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; an empty body has an empty answer (C-058).

        Raises:
            UnsupportedContentTypeError, UnsupportedAcceptError: before any work is done.
            MalformedPayloadError: the body is not of its content type, or not as wide as the model.
            PredictionError: the model failed.
            OutOfMemoryError: there is no room for an answer of so many values.
        """
        began = thread_time()
        try:
            return self._invoke(invocation)
        finally:
            self.latency.record(len(invocation.body), thread_time() - began)

    def _invoke(self, invocation: Invocation) -> Answer:
        if not invocation.body:
            return EMPTY
        request_format = self._format(invocation.content_type)
        accept = content_types.negotiate(invocation.accept, self._answer_types, self.default_accept)
        started = perf_counter()
        try:
            batch = request_format.decode(invocation.body, request_format.columns)
        except MalformedPayloadError as error:
            raise read_as(error, invocation, request_format.name) from None
        decoding = perf_counter() - started
        n_rows = batch.n_rows
        labels = batch.labels if isinstance(batch, TableBatch) else None
        if n_rows * self._n_outputs <= answer_memory.SMALL:
            return self._answer(batch.features, labels, n_rows, accept, decoding)
        with answer_memory.room_for(n_rows, self._n_outputs):
            return self._answer(batch.features, labels, n_rows, accept, decoding)

    def _format(self, content_type: str) -> RequestFormat:
        """The format of a content type.

        Args:
            content_type: The header; empty for the algorithm's default.
        Raises:
            UnsupportedContentTypeError: the algorithm does not read it.
            MalformedPayloadError: a parameter of it is wrong.
        """
        known = self._formats.get(content_type)
        if known is not None:
            return known
        accepted = self.algorithm.request_types
        media = content_types.parse(content_type or accepted[0])
        if media.name not in accepted:
            raise UnsupportedContentTypeError(media.name, accepted)
        columns = request_columns.of_content_type(
            media.parameters,
            getattr(self.model, "n_features", None),
            self.libsvm_base,
            feature_names(self.model),
        )
        is_packed = media.name in codecs.PACKED_TYPES
        decode = self._decoder(media)
        request_format = RequestFormat(media.name, columns, decode, is_packed)
        if len(self._formats) >= _MAX_FORMATS:  # clients choose the header's value
            self._formats.clear()
        self._formats[content_type] = request_format
        return request_format

    def _decoder(self, media: MediaType) -> Callable[[bytes, Columns], Batch | TableBatch]:
        if self.schema is None:
            return decoder_pool.decoder(media.name)
        schema = self.schema

        def decode(body: bytes, columns: Columns) -> TableBatch:
            return decoders.decode(
                body,
                media.name,
                media.parameters,
                schema,
                columns.n_leading,
                passes_label=self.capabilities.passes_label,
            )

        return decode

    def _answer(
        self,
        features: NDArray[Any] | SparseRows | Table,
        labels: NDArray[Any] | None,
        n_rows: int,
        accept: str,
        decoding: float,
    ) -> Answer:
        started = perf_counter()
        if not self._takes_all:
            names = self.schema.names if self.schema else feature_names(self.model)
            n_features = getattr(self.model, "n_features", 0)
            features = record_forms.prepared(features, self.capabilities, names, n_features)
        values = self._predict(features)
        predicted = perf_counter()
        answers.check(values, n_rows)
        if labels is not None:
            values = answers.with_label(labels, values)
        body = self._encode(values, accept)
        stages = (decoding, predicted - started, perf_counter() - predicted)
        return Answer(body, accept, n_rows, stages)

    def _encode(self, values: Answers, accept: str) -> bytes:
        if self.output_keys:
            named = self._selected(values)
            body = codecs.encode_named(named, accept)
        else:
            body = answers.encode(values, accept)
        if self.is_batch and accept == content_types.JSON:
            body += b"\n"  # all other text formats end with one (C-073)
        return body

    def _selected(self, values: Answers) -> NamedOutputs:
        if isinstance(values, Mapping):
            return {key: values[key] for key in self.output_keys}
        outputs = self.algorithm.select(self.model, values, self.output_keys)
        return {key: outputs[key] for key in self.output_keys}


def answer_types(algorithm: Algorithm, output_keys: Sequence[str]) -> tuple[str, ...]:
    """The media types of an algorithm's answers; not every format can hold named outputs.

    Args:
        algorithm: The algorithm of the model.
        output_keys: The outputs to answer with instead of the score; often none.
    """
    if not output_keys:
        return algorithm.response_types
    return tuple(name for name in algorithm.response_types if name in codecs.NAMED_TYPES)


def feature_names(model: Any) -> tuple[str, ...] | None:
    """The names of a model's features, if it is a `NamedModel` whose features have names."""
    return getattr(model, "feature_names", None)


def read_as(
    error: MalformedPayloadError, invocation: Invocation, content_type: str
) -> MalformedPayloadError:
    """Add to a decoding error that the content type was assumed, if the request had none."""
    if invocation.content_type:
        return error
    return MalformedPayloadError(
        f"{error.problem}; the request has no Content-Type and was read as {content_type}: "
        "send the header, Content-Type: text/csv for example",
        line=error.line,
        record=error.record,
        column=error.column,
    )
