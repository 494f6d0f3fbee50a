"""The serving verb: open the port, load the model, then run gunicorn in this process.

The process is PID 1 in the container and gets the platform's SIGTERM itself. The model is loaded
before the workers are forked, so that they share its memory. A placeholder process answers 503
until the readiness of the first worker (C-046).
"""

import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from container import allocator, cgroup, logs
from container.algorithms import registry
from container.errors import AlgorithmError, ContainerError, PlatformError, SettingsError
from container.settings import Settings

if TYPE_CHECKING:
    from gunicorn.app.base import BaseApplication

    from serve.gunicorn.arbiter import InferenceArbiter
    from serve.gunicorn.placeholder import Placeholder
    from serve.http.inference_app import InferenceApplication, Limits
    from serve.http.request_metrics import Metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Added to the time limit of an invocation, which may block a worker's heartbeat of once a second.
_SILENCE_SECONDS = 10
# The platform kills 30 s after SIGTERM (C-062).
_GRACEFUL_SECONDS = 24
# Workers that drain still count while their successors do.
_PROCESSES_PER_WORKER = 4


def main(environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM.

    Args:
        environ: The environment, which holds the settings.
    Returns:
        The exit code: 0 after SIGTERM, 1 for a start that failed.
    """
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        logs.configure(Settings().log_level)
        return _fail(error)
    logs.configure(settings.log_level)
    # OpenMP and BLAS read these when they are loaded. One thread works on a request: two threads on
    # a small request take 20 ms instead of 0.1 ms where the other CPU is busy.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    allocator.return_large_blocks()
    allocator.share_one_arena()
    registry.use_directory(settings.algorithm_dir)
    try:
        _run(settings)
    except ContainerError as error:
        return _fail(error)
    except OSError as error:
        problem = f"{error.strerror or error}: {error.filename or 'no file'}"
        return _fail(PlatformError(problem), cause=error)
    except Exception as error:  # noqa: BLE001 - the process boundary: the reason is the last log line
        wrapped = AlgorithmError(f"internal error: {type(error).__name__}: {error}")
        return _fail(wrapped, cause=error)
    return 0


def _run(settings: Settings) -> None:
    if settings.is_multi_model and settings.multi_model_engine == "mms":
        from serve.mms import launcher

        launcher.run(settings)
    else:
        _run_gunicorn(settings)


def _run_gunicorn(settings: Settings) -> None:
    from serve.gunicorn.placeholder import Placeholder
    from serve.runtime import decoder_pool

    decoder_pool.POOL.limit_seconds(settings.timeout_seconds)
    listener = _open_port(settings.port)
    with Placeholder() as placeholder:
        placeholder.start(listener)
        run = _run_many_models if settings.is_multi_model else _run_one_model
        run(settings, listener, placeholder)


def _run_one_model(settings: Settings, listener: socket.socket, placeholder: "Placeholder") -> None:
    from a2wsgi import WSGIMiddleware

    from serve import loading
    from serve.gunicorn.arbiter import InferenceArbiter
    from serve.gunicorn.inference_worker import InferenceWorker
    from serve.http.access_log import Observer
    from serve.http.admin_app import create_app
    from serve.http.asgi import ASGIApp
    from serve.http.inference_app import InferenceApplication
    from serve.leases import OneModel
    from serve.runtime import validation_run

    if loading.brings_code(settings.base_dir / "model", settings):
        _run_one_model_with_code(settings, listener, placeholder)
        return
    artifact = loading.inspect(settings.base_dir / "model", settings)
    validation_run.in_child(artifact.validate)
    # Otherwise each worker loads the model itself. OpenMP's threads do not survive a fork either.
    can_share = artifact.is_fork_safe and os.environ["OMP_NUM_THREADS"] == "1"
    shared = artifact.load() if can_share else None
    placeholder.fills_later_gaps = shared is None
    n_workers, metrics = _workers(settings)
    others = create_app(settings, n_workers, metrics)

    def application(retire: "Callable[[], None]") -> InferenceApplication:
        return InferenceApplication(
            OneModel(shared or _in_worker(artifact.load)),
            cast(ASGIApp, WSGIMiddleware(cast(Any, others))),
            limits=_limits(settings, n_workers),
            observer=Observer(metrics, emf_namespace=settings.emf_namespace),
            retire=retire,
        )

    options = _gunicorn_options(settings, n_workers, metrics, listener)
    options["worker_class"] = InferenceWorker
    _serve(options, application, lambda server: InferenceArbiter(server, placeholder))


def _run_one_model_with_code(
    settings: Settings, listener: socket.socket, placeholder: "Placeholder"
) -> None:
    from a2wsgi import WSGIMiddleware

    from serve import loading
    from serve.gunicorn.forking_arbiter import ForkingArbiter
    from serve.gunicorn.inference_worker import InferenceWorker
    from serve.http.access_log import Observer
    from serve.http.admin_app import create_app
    from serve.http.asgi import ASGIApp
    from serve.http.inference_app import InferenceApplication
    from serve.leases import OneModel
    from serve.model_process import model_process
    from serve.model_process.code_model import CodeModel
    from serve.model_process.fork_server import ForkServer
    from serve.model_process.server_directory import ServerDirectory
    from serve.user_code.context import MODEL_NAME

    model_dir = settings.base_dir / "model"
    loading.inspect(model_dir, settings)  # fails at once, and logs what is not used
    placeholder.fills_later_gaps = True
    n_workers, metrics = _workers(settings)
    others = create_app(settings, n_workers, metrics)
    with ServerDirectory() as directory:
        server = ForkServer(directory.path, settings, n_at_once=n_workers)
        start = partial(model_process.start, directory.path, model_dir, MODEL_NAME, settings)

        def application(retire: "Callable[[], None]") -> InferenceApplication:
            return InferenceApplication(
                OneModel(CodeModel(MODEL_NAME, _in_worker(start), start)),
                cast(ASGIApp, WSGIMiddleware(cast(Any, others))),
                limits=_limits(settings, n_workers),
                observer=Observer(metrics, emf_namespace=settings.emf_namespace),
                retire=retire,
            )

        options = _gunicorn_options(settings, n_workers, metrics, listener)
        options["worker_class"] = InferenceWorker
        with server:
            _serve(options, application, lambda app: ForkingArbiter(app, placeholder, server))


def _run_many_models(
    settings: Settings, listener: socket.socket, placeholder: "Placeholder"
) -> None:
    from serve.multi_model.model_server import ModelServer
    from serve.multi_model.processes import ModelArbiter, ModelWorker

    n_workers, metrics = _workers(settings)
    limits = _limits(settings, n_workers)
    options = _gunicorn_options(settings, n_workers, metrics, listener)
    options["worker_class"] = ModelWorker
    with ModelServer(settings, n_workers, metrics) as models:
        _serve(
            options,
            partial(models.application, limits),
            lambda server: ModelArbiter(server, placeholder, models),
        )


def _workers(settings: Settings) -> "tuple[int, Metrics]":
    """The number of workers, and the metrics that they share."""
    from serve.http.request_metrics import Metrics

    n_workers = settings.workers or cgroup.cpu_count()
    return n_workers, Metrics(_PROCESSES_PER_WORKER * n_workers)


def _open_port(port: int) -> socket.socket:
    from serve.gunicorn.placeholder import open_port

    try:
        return open_port(port)
    except OSError as error:
        problem = f"port {port} cannot be opened: {error.strerror}"
        raise PlatformError(f"{problem}; choose one with SAGEMAKER_BIND_TO_PORT") from error


def _in_worker(load: "Callable[[], T]") -> "T":
    """Load the model in a worker, or exit with the code that stops the server.

    A model that does not load in one worker loads in none. The traceback is logged, because the
    error may be one of the user's own code.
    """
    from gunicorn.arbiter import Arbiter

    try:
        return load()
    except ContainerError as error:
        _fail(error, cause=error)
        sys.exit(Arbiter.WORKER_BOOT_ERROR)


def _serve(
    options: dict[str, object],
    application: "Callable[[Callable[[], None]], InferenceApplication]",
    arbiter: "Callable[[BaseApplication], InferenceArbiter]",
) -> None:
    """Run gunicorn until SIGTERM.

    Args:
        options: gunicorn's settings.
        application: Creates the application of a worker, given the function that retires it.
        arbiter: Creates the parent of the workers.
    """
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no type information
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> "Callable[[Callable[[], None]], InferenceApplication]":
            return application

        def run(self) -> None:
            arbiter(self).run()

    logger.info("server_starting", extra={"workers": options["workers"], "bind": options["bind"]})
    gc.collect()
    gc.freeze()  # keeps the collector from writing to, and so copying, pages that workers share
    Server().run()


def _limits(settings: Settings, n_workers: int) -> "Limits":
    from serve.http.inference_app import Limits

    # A quarter of the memory is for bodies. Decoding takes one to four times the size of a body.
    share = cgroup.memory_bytes() // 4 // n_workers
    return Limits(
        max_payload_bytes=settings.max_payload_bytes,
        max_held_bytes=max(share, settings.max_payload_bytes),
        timeout_seconds=settings.timeout_seconds,
        n_threads=settings.n_threads,
        n_waiting=settings.max_waiting,
    )


def _gunicorn_options(
    settings: Settings, n_workers: int, metrics: "Metrics", listener: socket.socket
) -> dict[str, object]:
    from serve.gunicorn.arbiter import JsonLogger

    return {
        "bind": f"fd://{listener.detach()}",
        "workers": n_workers,
        "asgi_loop": "uvloop",
        "timeout": settings.timeout_seconds + _SILENCE_SECONDS,
        "graceful_timeout": _GRACEFUL_SECONDS,
        "logger_class": JsonLogger,
        "control_socket_disable": True,  # it would need a writable home directory
        "pre_fork": partial(_before_fork, metrics),
        "child_exit": partial(_after_exit, metrics),
    }


def _before_fork(metrics: "Metrics", server: Any, worker: Any) -> None:
    worker.metrics_row = metrics.take_row()
    worker.placeholder = server.placeholder


def _after_exit(metrics: "Metrics", server: Any, worker: Any) -> None:
    metrics.release_row(worker.metrics_row)
    server.worker_exited(worker)


def _fail(error: ContainerError, *, cause: Exception | None = None) -> int:
    logger.error(
        "server_failed",
        extra={"code": error.code, "reason": error.message, "details": error.details},
        exc_info=cause,
    )
    return 1
