"""Models that make the server's own behaviour visible, and a client without sockets."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from a2wsgi import WSGIMiddleware

from container.codecs.base import Floats, SparseRows
from serve.app import create_app
from serve.asgi import InferenceApplication
from serve.invocation import Servable


class SumModel:
    """Predicts the sum of a record's features, so that expectations are arithmetic."""

    n_features = 2
    error: Exception | None = None

    def predict(self, features: Floats | SparseRows) -> Floats:
        if self.error is not None:
            raise self.error
        assert isinstance(features, np.ndarray)
        return np.nansum(features, axis=1, dtype=np.float32)


@dataclass
class SumAlgorithm:
    """What an algorithm says of itself; training is not part of it."""

    name: str = "sum"
    required_channels: tuple[str, ...] = ()
    optional_channels: tuple[str, ...] = ()
    training_types: tuple[str, ...] = ()
    request_types: tuple[str, ...] = ("text/csv", "text/libsvm")
    response_types: tuple[str, ...] = ("text/csv", "application/json")
    is_fork_safe: bool = True
    is_thread_safe: bool = True
    unused: dict[str, object] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"serving must not touch {name}")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Calls an ASGI application as gunicorn does."""

    def __init__(self, app: InferenceApplication) -> None:
        self.app = app

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
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
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
def servable(model: SumModel) -> Servable:
    return Servable(SumAlgorithm(), model, "text/csv")


@pytest.fixture
def client(servable: Servable) -> Client:
    others: Any = WSGIMiddleware(create_app())  # type: ignore[arg-type]
    return Client(InferenceApplication(servable, others, max_payload_bytes=1000))
