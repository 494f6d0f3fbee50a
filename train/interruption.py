"""SIGTERM in a training job: at once where there is nothing to save, in good order where there is.

The platform stops a job with SIGTERM and kills it 120 s later (C-029). An exception raised from a
signal handler may surface anywhere, also inside a callback of XGBoost's library, which then goes on
with half its data. So the handler never raises: it ends the process on the spot, or, once the
algorithm has called `defer`, leaves a mark for it to look at between two rounds.
"""

import logging
import os
import signal
import sys
from types import FrameType

logger = logging.getLogger(__name__)

EXIT_CODE = 128 + signal.SIGTERM


class Interruption:
    """The state of one process; its handler runs in the main thread."""

    def __init__(self) -> None:
        self.was_requested = False
        self._is_deferred = False

    def install(self) -> None:
        """Take over SIGTERM."""
        signal.signal(signal.SIGTERM, self._handle)

    def defer(self) -> None:
        """From now on there is something to save: leave a mark instead of ending."""
        self._is_deferred = True

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.was_requested = True
        logger.warning("sigterm_received", extra={"saves_first": self._is_deferred})
        if not self._is_deferred:
            sys.stdout.flush()
            os._exit(EXIT_CODE)
