"""A worker of multi-model-server: loads one model, then answers invocations of it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from container import cgroup
from container.errors import (
    ContainerError,
    ModelLoadError,
    OutOfMemoryError,
    UnsupportedContentTypeError,
)
from container.settings import Settings
from serve import loading
from serve.http import responses
from serve.http.access_log import Observation, Observer
from serve.http.error_body import request_id
from serve.http.request_body import RequestBodies
from serve.http.responses import Reply
from serve.invocation import Answer, Invocation, Servable
from serve.runtime import validation_run

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """A request from multi-model-server; names of headers are in lower case.

    `body` is None where multi-model-server has parsed the body as a form and kept no bytes.
    """

    body: bytes | None
    headers: Mapping[str, str]
    id: str


class Worker:
    """Answers invocations of one model, one at a time."""

    def __init__(self, servable: Servable, model_name: str, settings: Settings) -> None:
        self._servable = servable
        self._model_name = model_name
        self._observer = Observer(None, emf_namespace=settings.emf_namespace)
        self._bodies = RequestBodies(
            max_bytes=settings.max_payload_bytes,
            max_held_bytes=max(cgroup.memory_bytes() // 4, settings.max_payload_bytes),
            timeout_seconds=settings.timeout_seconds,
        )

    @classmethod
    def load(cls, model_dir: Path, model_name: str, settings: Settings) -> "Worker":
        """Validate the model in a child, which reports the reason even of a crash, then load it.

        Raises:
            ContainerError: the model cannot be used.
            MemoryError: there is not enough memory for it.
        """
        directory = _below(settings.model_roots, model_dir)
        try:
            artifact = loading.inspect(directory, settings, model_name=model_name)
            validation_run.in_child(artifact.validate)
            return cls(artifact.load(), model_name, settings)
        except ModelLoadError as error:
            if _is_for_memory(error):
                raise MemoryError(error.message) from error
            raise

    def reply(self, request: Request) -> Reply:
        """Answer one request; errors become replies."""
        headers = request.headers
        seen = Observation(
            _identity(request), headers.get("content-type", ""), n_bytes=len(request.body or b"")
        )
        seen.facts = {"model_name": self._model_name}
        if target_model := headers.get("x-amzn-sagemaker-target-model"):
            seen.facts["target_model"] = target_model
        try:
            return self._reply(seen, request)
        finally:
            self._observer.record(seen)

    def _reply(self, seen: Observation, request: Request) -> Reply:
        try:
            answer = self._answer(seen, request)
        except ContainerError as error:
            return seen.failed(error, responses.refusal(error, seen.request_id))
        except MemoryError as error:
            full = OutOfMemoryError("the invocation needs more memory than there is")
            return seen.failed(error, responses.refusal(full, seen.request_id))
        except Exception as error:  # noqa: BLE001 - the boundary: any exception of a model is a 500
            unknown = responses.InternalError("the invocation failed; see the log")
            return seen.failed(error, responses.refusal(unknown, seen.request_id))
        seen.n_rows, seen.stages = answer.n_rows, answer.stages
        return seen.replied(responses.of_answer(answer))

    def _answer(self, seen: Observation, request: Request) -> Answer:
        if request.body is None:
            accepted = ("a type of the model; multi-model-server parses this one as a form",)
            raise UnsupportedContentTypeError(seen.content_type, accepted)
        headers = request.headers
        encoding = headers.get("content-encoding", "").lower()
        detects_gzip = not self._servable.has_own_formats
        with self._bodies.inflated(request.body, encoding, detects_gzip=detects_gzip) as body:
            answer = self._servable.invoke(
                Invocation(
                    body,
                    headers.get("content-type", ""),
                    headers.get("accept", ""),
                    {
                        name.encode("latin-1", "replace"): value.encode("latin-1", "replace")
                        for name, value in headers.items()
                    },
                    seen.request_id,
                )
            )
            if isinstance(answer.body, bytes):
                return answer
            return answer._replace(body=b"".join(answer.body))  # multi-model-server cannot stream


def _is_for_memory(error: ModelLoadError) -> bool:
    """True if the validation run or the model's own code ran out of memory."""
    return bool(error.details.get("is_memory")) or isinstance(error.__cause__, MemoryError)


def _below(roots: tuple[Path, ...], model_dir: Path) -> Path:
    """Resolve links of the model directory; a path traversal check against the roots."""
    directory = model_dir.resolve()
    if not any(directory.is_relative_to(root.resolve()) for root in roots):
        raise ModelLoadError("the model directory is a link to one outside BYOA_MODEL_ROOTS")
    return directory


def _identity(request: Request) -> str:
    """Return the client's id, or the one that multi-model-server answers as `x-request-id`."""
    return request_id(request.headers.get("x-amzn-sagemaker-inference-id", "") or request.id)
