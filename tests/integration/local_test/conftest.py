import sys
from pathlib import Path

import pytest

from local_test.backends import Backend, DockerBackend, ProcessBackend
from tests.unit.local_test.conftest import ml

__all__ = ["backend", "docker_backend", "ml", "process_backend"]

FAKE_PROGRAM = Path(__file__).with_name("fake_program.py")


@pytest.fixture
def process_backend() -> ProcessBackend:
    return ProcessBackend(command=(sys.executable, str(FAKE_PROGRAM)), program_dir=Path("/"))


@pytest.fixture
def docker_backend(image: str) -> DockerBackend:
    """Any image with a Python on its PATH will do: the fake program is mounted into it."""
    options = ["--entrypoint", "python", "--workdir", "/fake"]
    for verb in ("train", "serve", "dance"):
        options += ["--volume", f"{FAKE_PROGRAM}:/fake/{verb}:ro"]
    return DockerBackend(image, options=tuple(options))


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend
