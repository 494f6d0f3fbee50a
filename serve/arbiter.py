"""gunicorn's arbiter and logger, with the births and deaths of workers that we need.

What differs from the stock ones (gunicorn 27.0.1) and why:

- A worker that is told to leave while it is being born leaves. Between the fork and its own
  handlers a stock worker has the arbiter's, which only note the signal: the arbiter then waited
  until the time was up and killed it.
- Workers that keep dying before they can serve end the server instead of being born for ever.
- While no worker can answer, another process does.
- SIGHUP and SIGUSR2 change nothing. Reloading would put workers beside those that drain, which
  answer pings with 503; a second arbiter has no place in a container.
- Log lines go where all others go, as JSON.
"""

import logging
import signal
from typing import Any

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from serve.gunicorn_worker import LEAVE_SIGNALS, InferenceWorker
from serve.stand_in import StandIn

_MAX_FAILED_BIRTHS = 3


class InferenceArbiter(Arbiter):  # type: ignore[misc] # gunicorn ships no type information
    """Starts workers that cannot miss a signal, and gives up on those that never get ready."""

    def __init__(self, app: BaseApplication, stand_in: StandIn) -> None:
        super().__init__(app)
        self.stand_in = stand_in
        self.n_failed_births = 0

    def worker_died(self, worker: InferenceWorker) -> None:
        """Called for every worker that has ended (gunicorn's hook `child_exit`)."""
        if not self.LISTENERS:  # the server is being stopped
            return
        self.n_failed_births = 0 if worker.was_ready else self.n_failed_births + 1
        if self.n_failed_births >= _MAX_FAILED_BIRTHS:
            reason = f"{self.n_failed_births} workers in a row died before they were ready."
            raise HaltServer(reason, self.WORKER_BOOT_ERROR)
        is_last = not any(other.was_ready for other in self.WORKERS.values())
        if worker.was_ready and is_last and self.stand_in.is_for_every_gap:
            self.stand_in.start(self.LISTENERS[0].sock)

    def handle_hup(self) -> None:
        """SIGHUP, which reloads elsewhere: model and settings are those of the start."""
        self.log.warning("SIGHUP and SIGUSR2 are ignored; start another server instead")

    handle_usr2 = handle_hup

    def spawn_worker(self) -> int:
        """Fork a worker with the signals held back until it has handlers of its own."""
        signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
        try:
            pid: int = super().spawn_worker()  # does not return in the worker
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE_SIGNALS)
        return pid


class JsonLogger(glogging.Logger):  # type: ignore[misc]
    """Leaves the formatting of gunicorn's messages to the root logger."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)
