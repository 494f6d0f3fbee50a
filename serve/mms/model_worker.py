"""One model in one worker process of multi-model-server: loaded once, then invoked."""

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
    """One request as multi-model-server hands it over; names of headers are in lower case.

    `body` is None where it has read the body as a form, of which no bytes are left.
    """

    body: bytes | None
    headers: Mapping[str, str]
    id: str


class Worker:
    """Answers for one model, one request at a time."""

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
        """Load the model, which is tried in a child first: then the reason is known if it crashes.

        Raises:
            ContainerError: the model cannot be used.
            MemoryError: there is not enough memory for it.
        """
        directory = _below(settings.model_roots, model_dir)
        try:
            artifact = loading.inspect(directory, settings, model_name=model_name)
            validation_run.in_child(artifact.try_out)
            return cls(artifact.load(), model_name, settings)
        except ModelLoadError as error:
            if _is_for_memory(error):
                raise MemoryError(error.message) from error
            raise

    def reply(self, request: Request) -> Reply:
        """Answer one request; whatever goes wrong is a reply, too."""
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
        except Exception as error:  # noqa: BLE001 - the rim: whatever a model raises is a 500
            unknown = responses.InternalError("the invocation failed; see the log")
            return seen.failed(error, responses.refusal(unknown, seen.request_id))
        seen.n_rows, seen.stages = answer.n_rows, answer.stages
        return seen.replied(responses.of_answer(answer))

    def _answer(self, seen: Observation, request: Request) -> Answer:
        if request.body is None:
            accepted = ("what the model takes; multi-model-server reads this one as a form",)
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
            return answer._replace(body=b"".join(answer.body))  # it has no way to stream


def _is_for_memory(error: ModelLoadError) -> bool:
    """Whether a trial ran out of memory, or the model's own code did."""
    return bool(error.details.get("is_memory")) or isinstance(error.__cause__, MemoryError)


def _below(roots: tuple[Path, ...], model_dir: Path) -> Path:
    """The directory behind all links, which must not lead out of the roots."""
    directory = model_dir.resolve()
    if not any(directory.is_relative_to(root.resolve()) for root in roots):
        raise ModelLoadError("the model directory is a link that leads out of BYOA_MODEL_ROOTS")
    return directory


def _identity(request: Request) -> str:
    """The client's id, or the one that multi-model-server gives back as `x-request-id`."""
    return request_id(request.headers.get("x-amzn-sagemaker-inference-id", "") or request.id)
