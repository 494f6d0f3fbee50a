"""Multi-model server: the parts that all workers share, and the application of each worker.

arbiter ── fork server ── a process for each validation run, and for each model with code
   ├────── worker: ASGI application, model cache, a catalogue for the routes in Flask
   └────── worker
in shared memory: versions, metrics; in a directory: registry, sockets
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self, cast

from a2wsgi import WSGIMiddleware

from container import cgroup
from container.algorithms import registry as algorithms
from container.settings import Settings
from serve.http import whole_bodies
from serve.http.access_log import Observer
from serve.http.admin_app import create_app
from serve.http.asgi import ASGIApp
from serve.http.inference_app import InferenceApplication, Limits
from serve.http.request_metrics import Metrics
from serve.model_process.fork_server import ForkServer
from serve.model_process.server_directory import ServerDirectory
from serve.multi_model import api_responses
from serve.multi_model.admission import model_validation
from serve.multi_model.admission.admission_check import Admission
from serve.multi_model.api import create_blueprint
from serve.multi_model.catalogue import Catalogue
from serve.multi_model.model_leases import ModelLeases
from serve.multi_model.model_metrics import ModelMetrics, Totals, utilization
from serve.multi_model.model_registry import Registry
from serve.multi_model.residency import memory_budget
from serve.multi_model.residency.model_cache import ModelCache
from serve.multi_model.residency.model_loader import ModelLoader
from serve.multi_model.residency.peers import Peers
from serve.multi_model.residency.versions import Versions

if TYPE_CHECKING:
    from prometheus_client import Metric

# A load or an unload may hold a thread for minutes; the other routes have threads of their own.
_N_LOADING_THREADS = 32
_REPORT_SECONDS = 60


class ModelServer:
    """Shared parts of all workers, made by their parent; a collector of `GET /metrics`."""

    def __init__(self, settings: Settings, n_workers: int, metrics: Metrics) -> None:
        algorithms.preload()  # once for all workers and all validation runs
        self._settings = settings
        self._n_workers = n_workers
        self._metrics = metrics
        self._server_directory = ServerDirectory()
        self._directory = self._server_directory.path
        self._max_bytes = memory_budget.model_bytes(settings, n_workers)
        self._versions = Versions()
        self._registry = Registry(self._directory, self._versions)
        self.metrics = ModelMetrics(metrics.n_rows, emf_namespace=settings.emf_namespace)
        self.fork_server = ForkServer(
            self._directory,
            settings,
            n_at_once=cgroup.cpu_count(),
            validate=model_validation.report,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.fork_server.__exit__(*error)
        self._server_directory.__exit__(*error)

    def application(self, limits: Limits, retire: Callable[[], None]) -> "ModelApplication":
        """Make the ASGI application of a worker; called in each of them."""
        settings = self._settings
        loader = ModelLoader(self._directory, self._registry, settings)
        cache = ModelCache(
            self._registry,
            self._versions,
            loader.load,
            max_bytes=self._max_bytes,
            pinned=settings.pinned_models,
            metrics=self.metrics,
            retire=retire,
        )
        catalogue = Catalogue(
            settings,
            self._registry,
            Admission(self._directory, self._registry, loader, settings),
            cache,
            Peers(self._directory),
            max_bytes=self._max_bytes,
            loader=loader,
        )
        app = create_app(settings, self._n_workers, self._metrics, self)
        app.config["MAX_CONTENT_LENGTH"] = whole_bodies.MAX_BYTES
        app.url_map.merge_slashes = False  # a name may hold them
        app.register_blueprint(create_blueprint(catalogue))
        return ModelApplication(
            ModelLeases(cache, self.metrics, max_waiting=settings.max_waiting),
            _Routes(app),
            limits=limits,
            observer=Observer(self._metrics, emf_namespace=settings.emf_namespace),
            retire=retire,
            refusal=api_responses.refused_invocation,
            start=lambda: self._start(catalogue),
            use_row=self.metrics.use_row,
        )

    def describe(self) -> "list[Metric]":
        """See `prometheus_client.registry.Collector`."""
        return []

    def collect(self) -> "Iterator[Metric]":
        """See `prometheus_client.registry.Collector`."""
        return self.metrics.collect(self._totals())

    async def _start(self, catalogue: Catalogue) -> None:
        await catalogue.start()
        if self._settings.emf_namespace is not None:
            self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        """Log the gauges of the whole container once a minute, from one of the workers."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            if self._registry.claim(round(time.time() / _REPORT_SECONDS)):
                self.metrics.log_totals(self._totals())

    def _totals(self) -> Totals:
        n_models, _ = self._registry.totals()
        return Totals(n_models, *utilization(self._settings.model_roots[0]))


class ModelApplication(InferenceApplication):
    """An application with a coroutine to await before the first request."""

    def __init__(
        self,
        *arguments: Any,
        start: Callable[[], Coroutine[Any, Any, None]],
        use_row: Callable[[int], None],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.start = start
        self.use_row = use_row


class _Routes:
    """The Flask application as ASGI, with separate thread pools for reads and for changes."""

    def __init__(self, app: Any) -> None:
        def terminated(environ: Any, start_response: Any) -> Any:
            environ["wsgi.input_terminated"] = True  # also a chunked body ends, without a length
            return app(environ, start_response)

        self._quick = cast(ASGIApp, WSGIMiddleware(terminated))
        self._slow = cast(ASGIApp, WSGIMiddleware(terminated, workers=_N_LOADING_THREADS))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_quick = scope["method"] in ("GET", "HEAD")
        await (self._quick if is_quick else self._slow)(scope, receive, send)
