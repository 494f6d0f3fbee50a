"""Arbiter of a server with a fork server, which it keeps running beside the workers."""

import time

from gunicorn.app.base import BaseApplication

from serve.gunicorn.arbiter import InferenceArbiter
from serve.gunicorn.placeholder import Placeholder
from serve.model_process import descendants
from serve.model_process.fork_server import ForkServer

# Model processes end with the fork server, but not within the same instant.
_ORPHAN_SECONDS = 10.0


class ForkingArbiter(InferenceArbiter):
    """An arbiter that starts the fork server before the workers, and again when it has ended.

    It also ends what the code of models has started and a killed fork server has left behind: as a
    child subreaper it becomes the parent of such processes.
    """

    def __init__(
        self, app: BaseApplication, placeholder: Placeholder, fork_server: ForkServer
    ) -> None:
        super().__init__(app, placeholder)
        self._fork_server = fork_server
        self._orphans_until = 0.0
        descendants.adopt_orphans()

    def manage_workers(self) -> None:
        """Restart the fork server and workers as needed; called after SIGCHLD and once a second."""
        if self._fork_server.keep_running():
            self._orphans_until = time.monotonic() + _ORPHAN_SECONDS
        if time.monotonic() < self._orphans_until:
            own = {self._fork_server.process_id, *self.placeholder.process_ids, *self.WORKERS}
            descendants.end_orphans(own)
        super().manage_workers()
