"""Arbiter of a server with a fork server, which it keeps running beside the workers."""

from gunicorn.app.base import BaseApplication

from serve.gunicorn.arbiter import InferenceArbiter
from serve.gunicorn.placeholder import Placeholder
from serve.model_process.fork_server import ForkServer


class ForkingArbiter(InferenceArbiter):
    """An arbiter that starts the fork server before the workers, and again when it has ended."""

    def __init__(
        self, app: BaseApplication, placeholder: Placeholder, fork_server: ForkServer
    ) -> None:
        super().__init__(app, placeholder)
        self._fork_server = fork_server

    def manage_workers(self) -> None:
        """Restart the fork server and workers as needed; called after SIGCHLD and once a second."""
        self._fork_server.keep_running()
        super().manage_workers()
