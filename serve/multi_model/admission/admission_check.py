"""Admission check: a worker asks the fork server to validate a model, unless its digest is known.

Called in threads of a worker. The verdict on files with the same bytes is reused (deduplicated by
digest), so loading them again needs no second validation run.
"""

import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import NamedTuple

from container import cgroup
from container.errors import ModelLoadError, OutOfMemoryError, PlatformError
from container.settings import Settings
from serve import loading
from serve.model_process.fork_messages import Answer, Task, decoded, socket_file
from serve.model_process.model_process import ModelProcess
from serve.multi_model import model_files
from serve.multi_model.model_registry import OWN_CODE, Registry, Verdict
from serve.multi_model.residency.model_loader import ModelLoader
from serve.runtime import validation_run
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 2**16
# The fork server itself ends a validation run that takes too long; this limit is for a fork server
# that does not answer.
_ANSWER_SECONDS = MODEL_TIMEOUT_SECONDS + 30.0
_N_ATTEMPTS = 3
_CHANGED = "the files of the model changed while it was being loaded"


class Admitted(NamedTuple):
    """Facts of model files that passed, as in `serve.multi_model.model_registry.Model`."""

    digest: str
    signature: str
    algorithm: str
    n_bytes: int
    process: ModelProcess | None = None  # in which a model with code is loaded already


class Admission:
    """Decides whether a model may be loaded into a worker; caches verdicts by digest."""

    def __init__(
        self, directory: Path, registry: Registry, loader: ModelLoader, settings: Settings
    ) -> None:
        """Args:
        directory: Holds the fork server's socket.
        registry: Keeps the verdicts.
        loader: Starts the processes of models with code.
        settings: Of the server.
        """
        self._socket_file = socket_file(directory)
        self._registry = registry
        self._loader = loader
        self._settings = settings

    def admit(self, directory: Path, name: str) -> Admitted:
        """Validate a model, unless files with the same bytes were validated before.

        A model with code is loaded in a process of its own instead, which then serves it: a crash
        costs nobody else anything.

        Raises:
            ModelLoadError: the model cannot be used, or its files changed meanwhile.
            OutOfMemoryError: its validation run took more memory than there is.
            PlatformError: it could not be validated.
        """
        signature = model_files.signature(directory)
        digest = model_files.digest(directory)
        if loading.brings_code(directory, self._settings):
            process = self._loader.start(directory, name)
            if model_files.signature(directory) != signature:
                process.close()
                raise ModelLoadError(_CHANGED)
            return Admitted(digest, signature, OWN_CODE, process.n_bytes, process)
        verdict = self._registry.verdict(digest)
        if verdict is None:
            verdict = self._validate(directory)
            if model_files.signature(directory) != signature:
                raise ModelLoadError(_CHANGED)
            self._registry.remember(digest, verdict)
        if verdict.problem is not None:
            raise ModelLoadError(verdict.problem)
        return Admitted(digest, signature, verdict.algorithm, verdict.n_bytes)

    def _validate(self, directory: Path) -> Verdict:
        """Have the fork server validate a model; repeat where it or the child was killed."""
        n_kills = cgroup.memory_kills()
        for _ in range(_N_ATTEMPTS):
            answer = self._ask(directory)
            if answer is not None and answer.algorithm:
                return Verdict(answer.algorithm, answer.n_bytes)
            was_killed = answer is None or _signal_of(answer.status) == signal.SIGKILL
            if (answer and answer.is_memory) or (was_killed and cgroup.memory_kills() > n_kills):
                raise OutOfMemoryError(
                    "loading the model takes more memory than there is: "
                    f"{cgroup.memory_available_bytes() >> 20} of "
                    f"{cgroup.memory_bytes() >> 20} MiB are free"
                )
            if answer and answer.is_late:
                validation_run.judge(None, answer.status, MODEL_TIMEOUT_SECONDS)
            if answer and not was_killed:
                return Verdict("", 0, _problem(answer))
            logger.warning("validation_run_killed", extra={"directory": str(directory)})
        raise PlatformError(
            f"the process that validates models was killed {_N_ATTEMPTS} times; try later"
        )

    def _ask(self, directory: Path) -> Answer | None:
        """Return the fork server's answer; None where it was killed meanwhile."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            try:
                connection.connect(str(self._socket_file))
                connection.send(json.dumps(Task(os.fspath(directory))._asdict()).encode())
                packet = connection.recv(_MAX_MESSAGE_BYTES)
            except ConnectionError:
                return None
            except TimeoutError as error:
                raise PlatformError("the process that validates models does not answer") from error
        try:
            return decoded(Answer, packet) if packet else None
        except ValueError as error:
            raise ModelLoadError(
                "the validation run of the model ended without a readable answer"
            ) from error


def _signal_of(status: int) -> int | None:
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def _problem(answer: Answer) -> str:
    if answer.problem:
        return answer.problem
    try:
        validation_run.judge(b"", answer.status, MODEL_TIMEOUT_SECONDS)
    except ModelLoadError as error:
        return error.message
    return "the validation run of the model ended without a report"
