"""One invocation, without HTTP: negotiate, decode, predict, encode.

Every way in joins here: the ASGI application, and later the routes of many models and the
multi-model-server handler.
"""

from dataclasses import dataclass
from typing import NamedTuple

from container import codecs, content_types
from container.algorithms.base import Algorithm, Model
from container.codecs.base import Batch, Columns, SparseRows
from container.errors import MalformedPayloadError, UnsupportedContentTypeError


class Invocation(NamedTuple):
    """What a client sent. A header that is absent or empty is an empty string."""

    body: bytes
    content_type: str = ""
    accept: str = ""


class Answer(NamedTuple):
    """What it gets. Without a body there is no content type."""

    body: bytes
    content_type: str = ""
    n_rows: int = 0


@dataclass(frozen=True, slots=True)
class Servable:
    """A loaded model and how it is to be spoken to."""

    algorithm: Algorithm
    model: Model
    default_accept: str  # one of the algorithm's response types


def invoke(invocation: Invocation, servable: Servable) -> Answer:
    """Answer one invocation; an empty body has an empty answer (C-058).

    Raises:
        UnsupportedContentTypeError, UnsupportedAcceptError: judged before any work is done.
        MalformedPayloadError: the body is not what it says, or not as wide as the model.
        PredictionError: the model failed.
    """
    if not invocation.body:
        return Answer(b"")
    algorithm = servable.algorithm
    media = content_types.parse(invocation.content_type or algorithm.request_types[0])
    if media.name not in algorithm.request_types:
        raise UnsupportedContentTypeError(media.name, algorithm.request_types)
    accept = content_types.negotiate(
        invocation.accept, algorithm.response_types, servable.default_accept
    )
    batch = codecs.decoder(media.name)(invocation.body, _columns(media.parameters))
    _check_width(batch, servable.model.n_features)
    values = servable.model.predict(batch.features)
    return Answer(codecs.encode(values, accept), accept, batch.n_rows)


def _columns(parameters: dict[str, str]) -> Columns:
    label_size = parameters.get("label_size", "0")
    if label_size not in ("0", "1"):
        raise MalformedPayloadError(
            "the content type's label_size must be 0 (no label column, the default) or 1"
        )
    return Columns(label_size=int(label_size))


def _check_width(batch: Batch, n_features: int) -> None:
    """A missing column is an error, never a missing value."""
    is_sparse = isinstance(batch.features, SparseRows)
    if batch.n_features > n_features or (batch.n_features < n_features and not is_sparse):
        raise MalformedPayloadError(
            f"the records have {batch.n_features} features; the model takes {n_features}"
        )
