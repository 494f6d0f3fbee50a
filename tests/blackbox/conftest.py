"""The product from outside: as plain processes and as containers, from one parametrised fixture.

Nothing here imports the product; `local_test` starts it, and XGBoost called directly says what its
predictions must be.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import INHERITED_VARIABLES, Backend, DockerBackend, ProcessBackend
from local_test.datasets import TabularDataset, breast_cancer, write_breast_cancer
from local_test.invoke import Response, invoke
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from local_test.programs import RunningServer
from tests.blackbox.processes import wait_for_workers
from tests.waiting import wait_for


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the Docker half the cases beyond `docker_cases`.

    Containers add the image, its user, files and network: a table of requests, records or models
    that differ for the product's code alone is gone through in process mode.
    """
    n_in_docker: Counter[tuple[str, object]] = Counter()
    left_out = []
    for item in items:
        marker = item.get_closest_marker("docker_cases")
        if marker is None or item.get_closest_marker("docker") is None:
            continue
        assert isinstance(item, pytest.Function)
        cases = item.nodeid.partition("[")[0], item.callspec.params.get("engine")
        n_in_docker[cases] += 1
        if n_in_docker[cases] > marker.args[0]:
            left_out.append(item)
    if left_out:
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="module", autouse=True)
def quick_end_of_servers() -> Iterator[None]:
    """Servers that a test has no more use for end by Ctrl-C.

    After SIGTERM they would take requests for another second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunningServer, "context_signal", signal.SIGINT)
        yield


@pytest.fixture(
    scope="session", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Both ways to run everything."""
    if request.param == "process":
        measured = ("COVERAGE_PROCESS_START", "COVERAGE_FILE")  # branches of the verbs count, too
        return ProcessBackend(inherited_variables=(*INHERITED_VARIABLES, *measured))
    return DockerBackend(request.getfixturevalue("image"))


@pytest.fixture(scope="session")
def cancer() -> TabularDataset:
    return breast_cancer()


@pytest.fixture
def ml(tmp_path: Path) -> MlTree:
    """A complete tree with real data, ready to train."""
    tree = MlTree(tmp_path / "ml")
    write_breast_cancer(tree)
    return tree


@pytest.fixture
def train(backend: Backend, ml: MlTree) -> Callable[..., FinishedRun]:
    """Train on `ml` with these hyperparameters, which replace those of the tree if given."""

    def run(**hyperparameters: str) -> FinishedRun:
        if hyperparameters:
            ml.write_hyperparameters(hyperparameters)
        return backend.run_training(ml, timeout_seconds=120)

    return run


@dataclass(frozen=True)
class Trained:
    """A finished job and its model as XGBoost itself sees it."""

    ml: MlTree
    run: FinishedRun
    booster: xgboost.Booster

    def expected(self, features: np.ndarray) -> np.ndarray:
        return self.booster.predict(xgboost.DMatrix(features))


@pytest.fixture(scope="session")
def trained(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One job on the real data, shared by all tests that only look at its result."""
    ml = MlTree(tmp_path_factory.mktemp("trained") / "ml")
    write_breast_cancer(ml)
    run = backend.run_training(ml, timeout_seconds=120)
    assert run.exit_code == 0, run.output
    content = bytearray((ml.model_dir / "xgboost-model").read_bytes())
    return Trained(ml, run, xgboost.Booster(model_file=content))


@pytest.fixture(scope="session")
def server(backend: Backend, trained: Trained) -> Iterator[RunningServer]:
    """A server of the trained model, shared by all tests that do not disturb it."""
    n_workers = 2
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(n_workers)}
    with backend.start_server(trained.ml, environment=environment) as running:
        # Tests look whether the same processes still run.
        wait_for(lambda: running.output().count("Booting worker") == n_workers)
        wait_for_workers(running, n_workers)
        yield running


@pytest.fixture(scope="session")
def features(cancer: TabularDataset) -> np.ndarray:
    """The validation records, float32 [114, 30]."""
    rows = [line.split(",") for line in cancer.payload.decode().splitlines()]
    return np.array(rows, dtype=np.float32)


@pytest.fixture(scope="session")
def post(server: RunningServer) -> Callable[..., Response]:
    """Send an invocation to the shared server."""

    def send(body: bytes, **options: object) -> Response:
        return invoke(server.url, body, **options)  # type: ignore[arg-type]

    return send
