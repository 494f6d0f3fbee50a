"""gunicorn's arbiter and logger, with the births and deaths of workers that we need.

What differs from the stock ones (gunicorn 27.0.1) and why:

- A worker that is told to leave while it is being born leaves. Between the fork and its own
  handlers a stock worker has the arbiter's, which only note the signal: the arbiter then waited
  until the time was up and killed it.
- Workers that keep dying before they can serve end the server instead of being born for ever.
- A worker that could serve does not end the server, whatever code it exits with: a model's code may
  have chosen it. The stock arbiter takes 3 and 4 for a failure to start.
- While no worker can answer, another process does.
- SIGHUP and SIGUSR2 change nothing. Reloading would put workers beside those that drain, which
  answer pings with 503; a second arbiter has no place in a container.
- Log lines go where all others go, as JSON.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from serve.gunicorn.inference_worker import LEAVE_SIGNALS, InferenceWorker
from serve.gunicorn.placeholder import StandIn

_MAX_FAILED_BIRTHS = 3


class InferenceArbiter(Arbiter):  # type: ignore[misc] # gunicorn ships no type information
    """Starts workers that cannot miss a signal, and gives up on those that never get ready."""

    def __init__(self, app: BaseApplication, stand_in: StandIn) -> None:
        super().__init__(app)
        self.stand_in = stand_in
        self.n_failed_births = 0

    def reap_workers(self) -> None:
        """Bury the workers that have ended, and whatever else is a child of ours by now."""
        for process_id, status in _ended_children():
            worker = self.WORKERS.pop(process_id, None)
            if worker is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            self._log_end(process_id, code)
            worker.tmp.close()
            if code in (self.WORKER_BOOT_ERROR, self.APP_LOAD_ERROR) and not worker.was_ready:
                raise HaltServer("Worker failed to start.", code)
            self.cfg.child_exit(self, worker)

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

    def _log_end(self, process_id: int, code: int) -> None:
        if code == -signal.SIGKILL:
            self.log.error("Worker (pid:%s) was killed. Perhaps out of memory?", process_id)
        elif code < 0:
            level = logging.INFO if code == -signal.SIGTERM else logging.WARNING
            self.log.log(level, "Worker (pid:%s) was sent signal %s.", process_id, -code)
        elif code:
            self.log.error("Worker (pid:%s) exited with code %s.", process_id, code)


def _ended_children() -> Iterator[tuple[int, int]]:
    """Process ids, and what `os.waitpid` says of them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            yield ended


class JsonLogger(glogging.Logger):  # type: ignore[misc]
    """Leaves the formatting of gunicorn's messages to the root logger."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)
