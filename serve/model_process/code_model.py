"""A model with code as workers see it: its process, which is started again after a crash."""

import logging
import threading
from collections.abc import Callable

from container.errors import ContainerError
from serve.invocation import Answer, Invocation
from serve.model_process.model_process import ModelProcess

logger = logging.getLogger(__name__)

MANY_CRASHES = 3
"""So many crashes in a row are logged and described."""

NoteCrashes = Callable[[int, str], None]
"""Called with the number of crashes in a row and the reason of the last one; 0 and an empty text
after an answer."""


def _nothing(n_crashes: int, reason: str) -> None:
    """Do nothing."""


class CodeModel:
    """`serve.invocation.Servable` of a model with code; one invocation at a time."""

    is_thread_safe = False
    limits_itself = True

    def __init__(
        self,
        name: str,
        process: ModelProcess,
        restart: Callable[[], ModelProcess],
        *,
        note_crashes: NoteCrashes = _nothing,
    ) -> None:
        """Args:
        name: Of the model.
        process: In which the model is loaded.
        restart: Starts another one, and raises `ContainerError`; called in a thread.
        note_crashes: Called in a thread when a process has ended, and at the first answer after.
        """
        self._name = name
        self._process = process
        self._restart = restart
        self._note_crashes = note_crashes
        self._starting = threading.Lock()
        self._n_crashes = 0  # in a row
        self.has_own_formats = process.has_own_formats

    @property
    def n_bytes(self) -> int:
        """Memory of the process when the model was loaded."""
        return self._process.n_bytes

    def may_run_inline(self, invocation: Invocation) -> bool:
        return False

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; see `ModelProcess.invoke`.

        Raises:
            ContainerError: also that of a model that cannot be loaded again.
        """
        process = self._running()
        try:
            answer = process.invoke(invocation)
        except ContainerError:
            if process.has_ended:
                self._crashed(process)
            raise
        if self._n_crashes:
            self._n_crashes = 0
            self._note_crashes(0, "")
        return answer

    def close(self) -> None:
        """End the process; returns when it and all that it has started are gone."""
        with self._starting:
            self._process.close()

    def _running(self) -> ModelProcess:
        """Return the process, started again if it has ended."""
        with self._starting:
            if self._process.has_ended:
                self._crashed(self._process)
                self._process.close()
                self._process = self._restart()
            return self._process

    def _crashed(self, process: ModelProcess) -> None:
        """Count the end of a process once."""
        if process.is_counted:
            return
        process.is_counted = True
        self._n_crashes += 1
        facts = {"model_name": self._name, "reason": process.reason, "n_in_a_row": self._n_crashes}
        level = logging.ERROR if self._n_crashes >= MANY_CRASHES else logging.WARNING
        logger.log(level, "model_process_ended", extra=facts)
        self._note_crashes(self._n_crashes, process.reason)
