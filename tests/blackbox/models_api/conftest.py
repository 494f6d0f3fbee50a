"""Servers of many models, with either engine, in both modes."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Protocol

import pytest

from local_test.backends import BIND_TO_PORT, Backend, ProcessBackend
from local_test.host_process import reserve_port
from local_test.ml_tree import MlTree
from local_test.outcomes import PortInUseError
from tests.blackbox.models_api.models import Models

# multi-model-server takes no ports from 32767 on, where those begin that the kernel gives away.
# Each of pytest's processes begins elsewhere, or another could take a port that was found free.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = iter(range(22000 + _PROCESS % 16 * 600, 32000))


class Start(Protocol):
    """Starts a server of its own, with these variables in its environment."""

    def __call__(self, **environment: str) -> Models: ...


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The one that a test is about; tests for both name both as its parameters."""
    name: str = getattr(request, "param", "mms")
    return name


@pytest.fixture(scope="session")
def start(backend: Backend, engine: str, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Function that starts servers; the test is skipped where their engine cannot run."""
    if isinstance(backend, ProcessBackend) and engine == "mms":
        _skip_without_multi_model_server()

    def start(**environment: str) -> Models:
        ml = MlTree(tmp_path_factory.mktemp("models") / "ml").create()
        if isinstance(backend, ProcessBackend) and BIND_TO_PORT not in environment:
            environment[BIND_TO_PORT] = str(_free_port())
        environment |= {"SAGEMAKER_MULTI_MODEL": "true", "BYOA_MULTI_MODEL_ENGINE": engine}
        return Models(backend.start_server(ml, environment=environment), backend, ml)

    return start


@pytest.fixture(scope="session")
def models(start: Start) -> Iterator[Models]:
    """A server that tests share, each with models of names that no other test has."""
    models = start()
    with models.server:
        yield models
        assert models.server.is_running(), models.server.output()[-5000:]


def _skip_without_multi_model_server() -> None:
    if find_spec("mms") is None:
        pytest.skip(f"{sys.executable} has no multi-model-server; run: make venv")
    if shutil.which("java") is None:
        pytest.skip("there is no java on PATH, which multi-model-server needs")


def _free_port() -> int:
    for port in _PORTS:
        try:
            _, reservation = reserve_port(port)
        except PortInUseError:
            continue
        if reservation is not None:
            reservation.close()
        return port
    raise AssertionError("no port is free")
