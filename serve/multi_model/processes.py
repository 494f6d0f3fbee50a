"""gunicorn's arbiter and worker for a multi-model server."""

from typing import TYPE_CHECKING

from gunicorn.app.base import BaseApplication

from serve.gunicorn.forking_arbiter import ForkingArbiter
from serve.gunicorn.inference_worker import InferenceWorker
from serve.gunicorn.placeholder import Placeholder

if TYPE_CHECKING:
    from serve.multi_model.model_server import ModelApplication, ModelServer


class ModelWorker(InferenceWorker):
    """A worker that listens to its peers before it takes requests."""

    asgi: "ModelApplication"

    def load_wsgi(self) -> None:
        """Make the application, and give it the row of metrics that the arbiter chose."""
        super().load_wsgi()
        self.asgi.use_row(self.metrics_row)

    async def _serve(self) -> None:
        await self.asgi.start()
        await super()._serve()


class ModelArbiter(ForkingArbiter):
    """The arbiter of a multi-model server."""

    def __init__(
        self, app: BaseApplication, placeholder: Placeholder, models: "ModelServer"
    ) -> None:
        super().__init__(app, placeholder, models.fork_server)
        self._models = models

    def worker_exited(self, worker: ModelWorker) -> None:
        """Reset the gauges of a worker that has ended: its models are gone."""
        self._models.metrics.clear(worker.metrics_row)
        super().worker_exited(worker)
