"""Models with predictable answers, and an ASGI client without sockets."""

import asyncio
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from a2wsgi import WSGIMiddleware

from container.algorithms.serving_contract import Capabilities
from container.codecs.records import Floats, SparseRows
from container.settings import Settings
from serve import loading
from serve.http.access_log import Observer
from serve.http.admin_app import create_app
from serve.http.inference_app import InferenceApplication, Limits
from serve.http.request_metrics import Metrics
from serve.invocation import ModelServable, Servable
from serve.leases import OneModel
from serve.user_code.servable import ScriptServable


class SumModel:
    """Predicts the sum of a record's features."""

    n_features = 2
    error: Exception | None = None

    def predict(self, features: Floats | SparseRows) -> Floats:
        if self.error is not None:
            raise self.error
        assert isinstance(features, np.ndarray)
        return np.nansum(features, axis=1, dtype=np.float32)


EVERY_CAPABILITY = Capabilities(
    is_fork_safe=True, is_thread_safe=True, is_quick=True, predicts_row_blocks=True
)


@dataclass
class SumAlgorithm:
    """The members of an algorithm that serving uses."""

    name: str = "sum"
    required_channels: tuple[str, ...] = ()
    optional_channels: tuple[str, ...] = ()
    training_types: tuple[str, ...] = ()
    request_types: tuple[str, ...] = ("text/csv", "text/libsvm")
    response_types: tuple[str, ...] = ("text/csv", "application/json")
    capabilities: Capabilities = EVERY_CAPABILITY
    output_keys: tuple[str, ...] = ("half", "both")
    unused: dict[str, object] = field(default_factory=dict)

    def select(self, model: Any, values: Floats, keys: Any) -> dict[str, Any]:
        columns = {"half": values / 2, "both": np.column_stack([values, -values])}
        return {key: columns[key] for key in keys}

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"serving must not touch {name}")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """ASGI client: calls an application as gunicorn does."""

    def __init__(self, app: InferenceApplication) -> None:
        self.app = app
        self.leaves_after_its_body = False
        self.on_send: Callable[[dict[str, Any]], None] = lambda message: None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        return asyncio.run(self.send(method, path, body, headers))

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        parts = [body] if isinstance(body, bytes) else list(body)
        messages = [
            {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
            for index, part in enumerate(parts)
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not messages and not self.leaves_after_its_body:
                await asyncio.Event().wait()  # it waits for its answer
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.on_send(message)
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in (headers or {}).items()
            ],
        }
        await self.app(scope, receive, send)
        start, *rest = sent
        return Reply(
            start["status"],
            {name.decode().lower(): value.decode() for name, value in start["headers"]},
            b"".join(message["body"] for message in rest),
        )


@pytest.fixture
def model() -> SumModel:
    return SumModel()


@pytest.fixture
def servable(model: SumModel) -> ModelServable:
    return ModelServable(SumAlgorithm(), model, "text/csv")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(2)


LIMITS = Limits(
    max_payload_bytes=1000, max_held_bytes=10_000, timeout_seconds=5, n_threads=2, n_waiting=2
)


class Server:
    """Creates applications as a worker does, and records `retire`."""

    def __init__(self, servable: Servable, metrics: Metrics) -> None:
        self._servable = servable
        self._metrics = metrics
        self.n_retired = 0

    def client(self, servable: Servable | None = None, **limits: Any) -> Client:
        others: Any = WSGIMiddleware(create_app(Settings(), 2, self._metrics))  # type: ignore[arg-type]
        return Client(
            InferenceApplication(
                OneModel(servable or self._servable),
                others,
                limits=replace(LIMITS, **limits),
                observer=Observer(self._metrics),
                retire=self._retire,
            )
        )

    def _retire(self) -> None:
        self.n_retired += 1


@pytest.fixture
def server(servable: ModelServable, metrics: Metrics) -> Server:
    return Server(servable, metrics)


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


@pytest.fixture
def own_interpreter(tmp_path: Path) -> Iterator[None]:
    """Undo the changes of the interpreter by a user's code."""
    path, writes_nothing = list(sys.path), sys.dont_write_bytecode
    yield
    sys.path[:], sys.dont_write_bytecode = path, writes_nothing
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{tmp_path}/"):
            del sys.modules[name]


@dataclass
class ModelDirectory:
    """A model directory for a test to fill."""

    path: Path

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                content = textwrap.dedent(content).encode()
            file.write_bytes(content)

    def load(self, script: str, **settings: Any) -> ScriptServable:
        """Load the directory with `script` as the user's code."""
        self.write({f"code/{settings.get('program', 'inference.py')}": script})
        servable = loading.inspect(self.path, Settings(**settings)).load()
        assert isinstance(servable, ScriptServable)
        return servable


@pytest.fixture
def model_directory(tmp_path: Path, own_interpreter: None) -> ModelDirectory:
    directory = ModelDirectory(tmp_path / "model")
    directory.path.mkdir()
    return directory
