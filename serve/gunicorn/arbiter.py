"""gunicorn's arbiter and logger, with a stricter policy for the spawning and exit of workers.

Differences from gunicorn 27.0.1, with the reason for each:

- A worker that gets SIGTERM while it is being spawned exits. Between the fork and its own signal
  handlers a stock worker has the handlers of the arbiter, which only queue the signal: the arbiter
  waits for `graceful_timeout` and kills the worker.
- The server stops when several workers in a row exit before they are ready. The stock arbiter
  spawns workers for ever.
- A worker that was ready never stops the server, whatever its exit code: a model's code may have
  chosen the code. The stock arbiter takes 3 and 4 for a failure to start.
- A placeholder process answers while no worker is ready.
- SIGHUP and SIGUSR2 are ignored. A reload would spawn workers beside those that drain and answer
  pings with 503; a container has no use for a second arbiter.
- Log messages go through the root logger, as JSON.
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

from serve.gunicorn.inference_worker import EXIT_SIGNALS, InferenceWorker
from serve.gunicorn.placeholder import Placeholder

_MAX_FAILED_STARTS = 3


class InferenceArbiter(Arbiter):  # type: ignore[misc] # gunicorn ships no type information
    """Supervisor of the workers: spawns, reaps and counts those that exit before they are ready."""

    def __init__(self, app: BaseApplication, placeholder: Placeholder) -> None:
        super().__init__(app)
        self.placeholder = placeholder
        self.n_failed_starts = 0

    def reap_workers(self) -> None:
        """Reap the workers that have exited, and every process that this one has inherited.

        The arbiter is PID 1 of the container, so orphans become its children.

        Raises:
            HaltServer: a worker failed to start.
        """
        for process_id, status in _exited_children():
            worker = self.WORKERS.pop(process_id, None)
            if worker is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            self._log_exit(process_id, code)
            worker.tmp.close()
            if code in (self.WORKER_BOOT_ERROR, self.APP_LOAD_ERROR) and not worker.was_ready:
                raise HaltServer("Worker failed to start.", code)
            self.cfg.child_exit(self, worker)

    def worker_exited(self, worker: InferenceWorker) -> None:
        """Handle the exit of a worker; called by gunicorn's hook `child_exit`.

        Raises:
            HaltServer: too many workers in a row exited before they were ready.
        """
        if not self.LISTENERS:  # the server is stopping
            return
        self.n_failed_starts = 0 if worker.was_ready else self.n_failed_starts + 1
        if self.n_failed_starts >= _MAX_FAILED_STARTS:
            reason = f"{self.n_failed_starts} workers in a row exited before they were ready."
            raise HaltServer(reason, self.WORKER_BOOT_ERROR)
        is_last = not any(other.was_ready for other in self.WORKERS.values())
        if worker.was_ready and is_last and self.placeholder.fills_later_gaps:
            self.placeholder.start(self.LISTENERS[0].sock)

    def handle_hup(self) -> None:
        """Ignore SIGHUP and SIGUSR2: model and settings do not change while the server runs."""
        self.log.warning("SIGHUP and SIGUSR2 are ignored; start another server instead")

    handle_usr2 = handle_hup

    def spawn_worker(self) -> int:
        """Fork a worker with its exit signals blocked until it has its own handlers.

        Returns:
            The worker's process id.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_SIGNALS)
        try:
            pid: int = super().spawn_worker()  # never returns in the worker
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_SIGNALS)
        return pid

    def _log_exit(self, process_id: int, code: int) -> None:
        if code == -signal.SIGKILL:
            self.log.error("Worker (pid:%s) was killed. Perhaps out of memory?", process_id)
        elif code < 0:
            level = logging.INFO if code == -signal.SIGTERM else logging.WARNING
            self.log.log(level, "Worker (pid:%s) was sent signal %s.", process_id, -code)
        elif code:
            self.log.error("Worker (pid:%s) exited with code %s.", process_id, code)


def _exited_children() -> Iterator[tuple[int, int]]:
    """Yield process id and wait status of each child that has exited."""
    with contextlib.suppress(ChildProcessError):  # there are no children
        while (exited := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            yield exited


class JsonLogger(glogging.Logger):  # type: ignore[misc]
    """Logger that passes gunicorn's messages on to the root logger, which formats them as JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)
