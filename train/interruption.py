"""SIGTERM handling of a training job: save the model if there is one, then exit.

The platform stops a job with SIGTERM and kills it 120 s later (C-029). A Python handler runs in the
main thread between two instructions: not before a round of XGBoost has ended, however long that
takes. An exception that it raised might surface inside a callback of XGBoost's library, which then
goes on with half its data. So the handler only sets a flag. The interpreter also writes to a pipe
at once (`signal.set_wakeup_fd`). A thread reads the pipe and decides:

    no round is finished            end the process
    `fit` polls the flag            wait for it to save and to return
    ... but a round takes too long  save the model that it gave to `keep`, end the process
    `fit` does not poll             save the model that it gave to `keep` at once, end the process
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from container.algorithms.training_contract import TrainedModel

logger = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM
# Of the 120 s that the platform waits; the rest is for a large model on a slow disk.
GRACE_SECONDS = 60.0


class Interruption:
    """SIGTERM state of this process; see `container.algorithms.training_contract.Interruption`."""

    def __init__(self) -> None:
        self.was_requested = False
        self.leaves_model = True
        self._is_deferred = False
        self._kept: TrainedModel | None = None
        self._put_in_place: Callable[[TrainedModel], object] | None = None
        # Acquired once and never released: only one of the two threads may save.
        self._right_to_save = threading.Lock()
        self._is_over = threading.Event()
        self._writer = -1

    def install(self) -> None:
        """Install the handler and start the thread. Call it in the main thread."""
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._set_flag)
        threading.Thread(target=self._watch, args=(reader,), name="sigterm", daemon=True).start()

    def save_with(self, put_in_place: Callable[[TrainedModel], object]) -> None:
        """Set the function that saves the model given to `keep`."""
        self._put_in_place = put_in_place

    def request(self) -> None:
        """See `container.algorithms.training_contract.Interruption.request`."""
        self.was_requested = True

    def defer(self) -> None:
        """See `container.algorithms.training_contract.Interruption.defer`."""
        self._is_deferred = True

    def leave_no_model(self) -> None:
        """See `container.algorithms.training_contract.Interruption.leave_no_model`."""
        self.leaves_model = False

    def keep(self, model: TrainedModel) -> None:
        """See `container.algorithms.training_contract.Interruption.keep`."""
        if self.leaves_model:
            self._kept = model

    def begin_saving(self) -> None:
        """Claim the right to save for the main thread; never return if the other has it."""
        self._is_deferred = True
        self._right_to_save.acquire()

    def end(self) -> None:
        """Stop the thread: the job has ended, and SIGTERM has no effect from here on."""
        self._is_over.set()
        if self._writer >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self._writer)  # ends the thread

    def _set_flag(self, signum: int, frame: FrameType | None) -> None:
        self.was_requested = True

    def _watch(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as signals:
            while signal.SIGTERM not in (numbers := signals.read(64)):
                if not numbers:
                    return
        self.was_requested = True
        logger.warning("sigterm_received", extra={"saves_first": self._has_model()})
        if self._is_deferred and self._is_over.wait(GRACE_SECONDS):
            return
        if not self._right_to_save.acquire(blocking=False):
            return  # the main thread is saving
        self._save_kept()
        sys.stdout.flush()
        os._exit(EXIT_CODE)

    def _has_model(self) -> bool:
        return self._is_deferred or self._kept is not None

    def _save_kept(self) -> None:
        if self._kept is None or self._put_in_place is None:
            return
        try:
            self._put_in_place(self._kept)
        except Exception as error:
            # The process ends in any case: only the log can report it.
            logger.exception("kept_model_not_saved", extra={"reason": str(error)})
