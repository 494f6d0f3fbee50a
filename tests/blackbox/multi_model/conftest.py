"""A server of many models and a client of its management API, in both modes."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.invoke import Response, send
from local_test.ml_tree import MlTree
from local_test.programs import RunningServer
from tests.waiting import wait_for

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}
N_FEATURES = 3
ROW = b"1,2,3"


def constant_model(value: float) -> bytes:
    """A model in UBJSON that answers `value` to every record."""
    matrix = xgboost.DMatrix(np.zeros((2, N_FEATURES)), label=np.full(2, value))
    booster = xgboost.train({"base_score": value, "nthread": 1}, matrix, 1)
    return bytes(booster.save_raw("ubj"))


Answer = TypeVar("Answer")


@dataclass
class Fleet:
    """Models on disk, and a server that can load them."""

    backend: Backend
    ml: MlTree
    server: RunningServer
    timeout_seconds: float = 60.0
    constants: dict[float, bytes] = field(default_factory=dict)

    def path(self, place: str) -> Path:
        """Return the directory where the platform unpacks the archive of a model."""
        return self.ml.root / "models" / place / "model"

    def url(self, place: str) -> str:
        return self.backend.path_inside(self.ml, self.path(place))

    def write(self, place: str, files: Mapping[str, bytes | str]) -> None:
        """Put a model's files in place of those that are there."""
        directory = self.path(place)
        shutil.rmtree(directory, ignore_errors=True)
        for name, content in files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                content = textwrap.dedent(content).encode()
            file.write_bytes(content)

    def write_constant(self, place: str, value: float) -> None:
        """Put a model there that always answers `value`."""
        content = self.constants.setdefault(value, b"") or constant_model(value)
        self.constants[value] = content
        self.write(place, {"xgboost-model": content})

    def request(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        return send(
            *(self.server.url, method, route, body),
            headers=headers,
            timeout_seconds=self.timeout_seconds,
        )

    @contextmanager
    def held(self) -> Iterator[tuple[Path, str]]:
        """Yield a file that models wait on until it is deleted: its path here and inside."""
        directory = self.path("held")
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "hold"
        file.touch()
        try:
            yield file, f"{self.url('held')}/hold"
        finally:
            file.unlink(missing_ok=True)

    def load(self, name: str, place: str | None = None) -> Response:
        body = {"model_name": name, "url": self.url(place or name)}
        return self.request("POST", "/models", json.dumps(body).encode(), JSON)

    def unload(self, name: str) -> Response:
        return self.request("DELETE", f"/models/{quote(name, safe='')}")

    def describe(self, name: str) -> Response:
        return self.request("GET", f"/models/{quote(name, safe='')}")

    def invoke(self, name: str, body: bytes = ROW, **headers: str) -> Response:
        route = f"/models/{quote(name, safe='')}/invoke"
        return self.request("POST", route, body, {**CSV, **headers})

    def names(self) -> list[str]:
        """All models, page by page."""
        found: list[str] = []
        token = ""
        while True:
            page = json.loads(self.request("GET", f"/models?next_page_token={token}").body)
            found += [model["modelName"] for model in page["models"]]
            token = page.get("nextPageToken")
            if token is None:
                return found

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by name and labels."""
        lines = self.request("GET", "/metrics").text.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def kill(self, role: str) -> None:
        """Kill the processes of a role as the kernel does when memory runs out."""
        for process_id in self.processes(role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    def processes(self, role: str) -> list[int]:
        """Process ids by role: `worker`, `fork-server`, `validation-run` or `model-process`."""
        found = []
        for process_id in self.server.process_ids():
            try:
                name = Path(f"/proc/{process_id}/comm").read_text().strip()
            except OSError:
                continue
            if process_id == self.server.process_id:
                name = "arbiter"
            if name not in ("arbiter", "fork-server", "validation-run", "model-process"):
                name = "worker"
            if name == role:
                found.append(process_id)
        return found


def error_of(response: Response) -> tuple[int, str, str]:
    """Status, multi-model-server's type and our code of a refusal."""
    body = json.loads(response.body)
    assert body["code"] == response.status
    assert body["message"] == body["error"]["message"]
    return response.status, body["type"], body["error"]["code"]


def in_parallel(count: int, work: Callable[[int], Response]) -> list[Response]:
    """Do `work` many times at once."""
    barrier = threading.Barrier(count)

    def wait_and_work(index: int) -> Response:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_work, range(count)))


def retried(work: Callable[[], Answer]) -> Answer:
    """The first answer: connections to a process that is being killed may break."""
    for _ in range(200):
        try:
            return work()
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.01)
    raise AssertionError("no answer")


StartFleet = Callable[..., contextlib.AbstractContextManager["Fleet"]]


@contextmanager
def started(backend: Backend, root: Path, **environment: str) -> Iterator[Fleet]:
    """A server of many models on a tree of its own; of two workers unless the variables differ."""
    ml = MlTree(root).create()
    (ml.root / "models").mkdir()
    variables = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        **environment,
    }
    with backend.start_server(ml, environment=variables) as server:
        fleet = Fleet(backend, ml, server)
        # Tests look whether the same processes still run.
        n_workers = int(variables["SAGEMAKER_MODEL_SERVER_WORKERS"])
        wait_for(lambda: len(fleet.processes("worker")) == n_workers)
        yield fleet


@pytest.fixture(scope="session")
def start_fleet(
    backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., contextlib.AbstractContextManager[Fleet]]:
    """Start a server of many models with these variables, in a context."""

    def start(**environment: str) -> contextlib.AbstractContextManager[Fleet]:
        return started(backend, tmp_path_factory.mktemp("fleet") / "ml", **environment)

    return start


@pytest.fixture(scope="session")
def shared_fleet(start_fleet: StartFleet) -> Iterator[Fleet]:
    with start_fleet() as fleet:
        yield fleet


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """A server of two workers that every test leaves as it was: without a model."""
    yield shared_fleet
    unload_all(shared_fleet)


def unload_all(fleet: Fleet) -> None:
    for name in fleet.names():
        assert fleet.unload(name).status == 200


@pytest.fixture(scope="session")
def shared_one_worker_fleet(start_fleet: StartFleet) -> Iterator[Fleet]:
    with start_fleet(SAGEMAKER_MODEL_SERVER_WORKERS="1") as fleet:
        yield fleet


@pytest.fixture
def one_worker_fleet(shared_one_worker_fleet: Fleet) -> Iterator[Fleet]:
    """Server of one worker, whose counts are predictable; left without a model, too."""
    yield shared_one_worker_fleet
    unload_all(shared_one_worker_fleet)
