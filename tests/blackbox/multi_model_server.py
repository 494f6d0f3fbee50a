"""Starts the product with multi-model-server as its engine."""

import shutil
import sys
from importlib.util import find_spec
from typing import Protocol

import pytest

from local_test.backends import BIND_TO_PORT, Backend, ProcessBackend
from local_test.host_process import reserve_port
from local_test.ml_tree import MlTree
from local_test.outcomes import PortInUseError
from tests.blackbox.multi_model import Models

# It takes no ports from 32767 on, where those begin that the kernel gives to clients.
_PORTS = iter(range(22000, 32000))


class Start(Protocol):
    """Starts a server of its own, with these variables in its environment."""

    def __call__(self, **environment: str) -> Models: ...


def start_engine(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Return what starts servers; skips the test where multi-model-server cannot run."""
    if isinstance(backend, ProcessBackend):
        if find_spec("mms") is None:
            pytest.skip(f"{sys.executable} has no multi-model-server; run: make venv")
        if shutil.which("java") is None:
            pytest.skip("there is no java on PATH, which multi-model-server needs")

    def start(**environment: str) -> Models:
        ml = MlTree(tmp_path_factory.mktemp("models") / "ml").create()
        if isinstance(backend, ProcessBackend) and BIND_TO_PORT not in environment:
            environment[BIND_TO_PORT] = str(_free_port())
        environment |= {"SAGEMAKER_MULTI_MODEL": "true", "BYOA_MULTI_MODEL_ENGINE": "mms"}
        return Models(backend.start_server(ml, environment=environment), backend, ml)

    return start


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
