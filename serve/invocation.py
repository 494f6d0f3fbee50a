"""One invocation, without HTTP: negotiate, decode, predict, encode.

Every way in joins here: the ASGI application, the routes of many models, and the
multi-model-server handler.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, thread_time
from typing import Any, NamedTuple, Protocol

from container import codecs, content_types
from container.algorithms.contract import Algorithm, Capabilities, Model, capabilities_of, n_outputs
from container.codecs.records import Batch, Columns, Floats, Selected, SparseRows
from container.errors import (
    MalformedPayloadError,
    PredictionError,
    UnsupportedContentTypeError,
)
from serve.runtime import answer_memory, decoder_pool, row_parallelism
from serve.runtime.latency import Pace


class Invocation(NamedTuple):
    """What a client sent. A header that is absent or empty is an empty string."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    headers: Mapping[bytes, bytes] = {}  # as ASGI has them: only user code looks at them
    request_id: str = ""


class Answer(NamedTuple):
    """What it gets.

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
    """Something that can be invoked."""

    def is_quick(self, n_bytes: int, content_type: str) -> bool:
        """Whether a body of this size may be answered on the event loop, rather than in a thread:
        what pings and all other requests would wait for meanwhile."""

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may invoke at once."""

    @property
    def has_own_formats(self) -> bool:
        """Whether a body may be in other formats than those of `container.codecs`."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; raises `ContainerError`, or whatever user code raises."""


@dataclass(frozen=True, slots=True)
class ModelServable:
    """A model of an algorithm, spoken to in the algorithm's formats."""

    algorithm: Algorithm
    model: Model
    default_accept: str  # one of `answer_types`
    output_keys: tuple[str, ...] = ()  # what is answered instead of the score
    is_batch: bool = False  # whether answers are joined byte by byte
    libsvm_base: int | None = 0  # see `container.codecs.records.Columns`
    pace: Pace = field(default_factory=Pace)
    has_own_formats = False
    n_outputs: int = field(init=False)
    capabilities: Capabilities = field(init=False)
    _predict: Callable[[Floats | SparseRows], Floats] = field(init=False)
    _offered: tuple[str, ...] = field(init=False)
    # By label_size, "0" or "1": to make one takes longer than to find it.
    _columns: dict[str, Columns] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", n_outputs(self.model))
        declared = capabilities_of(self.algorithm)
        object.__setattr__(self, "capabilities", declared)
        in_blocks = partial(row_parallelism.predict, self.model)
        predict = in_blocks if declared.predicts_row_blocks else self.model.predict
        object.__setattr__(self, "_predict", predict)
        object.__setattr__(self, "_offered", answer_types(self.algorithm, self.output_keys))

    def is_quick(self, n_bytes: int, content_type: str) -> bool:
        # A model that is not thread-safe is called in threads only, which wait for each other.
        return (
            self.pace.is_quick(n_bytes)
            and self.capabilities.is_quick
            and self.capabilities.is_thread_safe
            and content_types.parse(content_type).name not in codecs.PACKED_TYPES
        )

    @property
    def is_thread_safe(self) -> bool:
        return self.capabilities.is_thread_safe

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; an empty body has an empty answer (C-058).

        Raises:
            UnsupportedContentTypeError, UnsupportedAcceptError: judged before any work is done.
            MalformedPayloadError: the body is not what it says, or not as wide as the model.
            PredictionError: the model failed.
            OutOfMemoryError: there is no room for an answer of so many values.
        """
        began = thread_time()
        try:
            return self._invoke(invocation)
        finally:
            self.pace.note(len(invocation.body), thread_time() - began)

    def _invoke(self, invocation: Invocation) -> Answer:
        if not invocation.body:
            return EMPTY
        algorithm = self.algorithm
        media = content_types.parse(invocation.content_type or algorithm.request_types[0])
        if media.name not in algorithm.request_types:
            raise UnsupportedContentTypeError(media.name, algorithm.request_types)
        accept = content_types.negotiate(invocation.accept, self._offered, self.default_accept)
        started = perf_counter()
        label_size = media.parameters.get("label_size", "0")
        columns = self._columns.get(label_size)
        if columns is None:
            names = feature_names(self.model)
            columns = columns_of(media.parameters, self.model.n_features, self.libsvm_base, names)
            self._columns[label_size] = columns
        try:
            batch = decoder_pool.decode(media.name, invocation.body, columns)
            check_width(batch, self.model.n_features)
        except MalformedPayloadError as error:
            raise read_as(error, invocation, media.name) from None
        decoding = perf_counter() - started
        if batch.n_rows * self.n_outputs <= answer_memory.SMALL:
            return self._answer(batch, accept, decoding)
        with answer_memory.room_for(batch.n_rows, self.n_outputs):
            return self._answer(batch, accept, decoding)

    def _answer(self, batch: Batch, accept: str, decoding: float) -> Answer:
        started = perf_counter()
        values = self._predict(batch.features)
        predicted = perf_counter()
        n_rows = batch.n_rows
        if len(values) != n_rows:
            raise PredictionError(f"the model gave {len(values)} predictions for {n_rows} records")
        body = self._encode(values, accept)
        stages = (decoding, predicted - started, perf_counter() - predicted)
        return Answer(body, accept, n_rows, stages)

    def _encode(self, values: Floats, accept: str) -> bytes:
        if self.output_keys:
            columns = self.algorithm.select(self.model, values, self.output_keys)
            body = codecs.encode_selected(Selected(self.output_keys, columns), accept)
        else:
            body = codecs.encode(values, accept)
        if self.is_batch and accept == content_types.JSON:
            body += b"\n"  # every other text format ends with one anyway (C-073)
        return body


def answer_types(algorithm: Algorithm, output_keys: Sequence[str]) -> tuple[str, ...]:
    """What an algorithm's answers can be written as; not every format has room for named outputs.

    Args:
        algorithm: Whose answers they are.
        output_keys: What is answered instead of the score, if anything.
    """
    if not output_keys:
        return algorithm.response_types
    return tuple(name for name in algorithm.response_types if name in codecs.SELECTED_TYPES)


def feature_names(model: Any) -> tuple[str, ...] | None:
    """What a model calls its features, if it is a `NamedModel` whose features have names."""
    return getattr(model, "feature_names", None)


def columns_of(
    parameters: Mapping[str, str],
    n_features: int | None = None,
    libsvm_base: int | None = 0,
    names: tuple[str, ...] | None = None,
) -> Columns:
    """What the parameters of a content type say of its columns.

    Args:
        parameters: Of the request's content type.
        n_features: How many features the model takes, where that is known.
        libsvm_base: What libsvm columns count from, for this model.
        names: What the model calls its features, where it does.
    """
    label_size = parameters.get("label_size", "0")
    if label_size not in ("0", "1"):
        raise MalformedPayloadError(
            "the content type's label_size must be 0 (no label column, the default) or 1"
        )
    return Columns(
        int(label_size), n_features=n_features, libsvm_base=libsvm_base, feature_names=names
    )


def read_as(
    error: MalformedPayloadError, invocation: Invocation, content_type: str
) -> MalformedPayloadError:
    """The error of a body that was refused, which says so where its type was assumed."""
    if invocation.content_type:
        return error
    return MalformedPayloadError(
        f"{error.problem}; the request has no Content-Type and was read as {content_type}: "
        "send the header, Content-Type: text/csv for example",
        line=error.line,
        record=error.record,
        column=error.column,
    )


def check_width(batch: Batch, n_features: int) -> None:
    """A missing column is an error, never a missing value."""
    is_sparse = isinstance(batch.features, SparseRows)
    if batch.n_features > n_features or (batch.n_features < n_features and not is_sparse):
        hint = "; leave out a label or an index" if batch.n_features == n_features + 1 else ""
        raise MalformedPayloadError(
            f"the records have {batch.n_features} features; the model takes {n_features}{hint}"
        )
