"""LightGBM as a user has it: train, serve, and in which image."""

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from local_test.backends import Backend, DockerBackend
from local_test.datasets import TabularDataset, write_breast_cancer
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from tests.blackbox.processes import wait_for_workers
from tests.waiting import PATIENCE_SECONDS

ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
HYPERPARAMETERS = {
    "algorithm": "lightgbm",
    "objective": "binary",
    "num_boost_round": "10",
    "num_threads": "1",
}


def _tree(root: Path) -> MlTree:
    ml = MlTree(root / "ml")
    write_breast_cancer(ml)
    ml.write_hyperparameters(HYPERPARAMETERS)
    return ml


@pytest.mark.canary
def test_job_leaves_a_model_whose_answers_are_those_of_lightgbm(
    backend: Backend, tmp_path: Path, cancer: TabularDataset, features: np.ndarray
) -> None:
    """CSV and libsvm; the server has LightGBM's library, and nothing of XGBoost or Python's."""
    ml = _tree(tmp_path)
    run = backend.run_training(ml, timeout_seconds=120)
    assert run.exit_code == 0, run.output
    assert "[9]\ttrain-binary_logloss:" in run.output
    booster = lightgbm.Booster(model_file=str(ml.model_dir / "lightgbm-model.txt"))
    sparse = b"".join(
        b"0 " + b" ".join(b"%d:%.9g" % cell for cell in enumerate(row)) + b"\n" for row in features
    )

    with backend.start_server(ml, environment=ONE_WORKER) as server:
        answers = [
            invoke(server.url, cancer.payload, content_type="text/csv"),
            invoke(server.url, sparse, content_type="text/libsvm"),
        ]
        (worker,) = wait_for_workers(server, 1)
        maps = Path(f"/proc/{worker}/maps").read_text()

    expected = booster.predict(features)
    for answer in answers:
        assert answer.status == 200, answer.body
        found = np.array(answer.body.split(), dtype=float)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert "lib_lightgbm.so" in maps
    assert not [other for other in ("libxgboost", "scipy/", "sklearn/") if other in maps]


def test_server_of_xgboost_loads_no_lightgbm(
    backend: Backend, ml: MlTree, tmp_path: Path, cancer: TabularDataset
) -> None:
    """No framework is loaded for another's sake."""
    assert backend.run_training(ml, timeout_seconds=120).exit_code == 0
    with backend.start_server(ml, environment=ONE_WORKER) as server:
        assert invoke(server.url, cancer.payload, content_type="text/csv").status == 200
        (worker,) = wait_for_workers(server, 1)
        maps = Path(f"/proc/{worker}/maps").read_text()

    assert "libxgboost" in maps
    assert "lightgbm" not in maps


def test_model_that_would_crash_the_library_is_not_served(backend: Backend, tmp_path: Path) -> None:
    """A file without a manifest that names a feature it does not have."""
    ml = _tree(tmp_path)
    assert backend.run_training(ml, timeout_seconds=120).exit_code == 0
    text = (ml.model_dir / "lightgbm-model.txt").read_text()
    hostile = MlTree(tmp_path / "hostile").create()
    (hostile.model_dir / "model.txt").write_text(
        text.replace("\nleft_child=1", "\nleft_child=0")  # a circle of one node
    )

    with pytest.raises(ServerStartError) as caught:
        backend.start_server(hostile, ready_timeout_seconds=PATIENCE_SECONDS)

    assert caught.value.exit_code == 1
    problem = "model.txt is damaged or not a LightGBM model: tree 0: a node has two parents"
    assert problem in caught.value.output


@pytest.mark.docker
def test_slim_image_names_the_full_one(slim_image: str, tmp_path: Path) -> None:
    """A job and a model of LightGBM fail with the remedy where there is no LightGBM."""
    ml = _tree(tmp_path)
    backend = DockerBackend(slim_image)

    assert backend.run_training(ml, timeout_seconds=120).exit_code == 1
    assert "use the full image" in (ml.failure_reason() or "")

    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(np.arange(100.0).reshape(-1, 1), np.arange(100.0)),
        2,
    )
    served = MlTree(tmp_path / "served").create()
    booster.save_model(served.model_dir / "model.txt")
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(served, ready_timeout_seconds=PATIENCE_SECONDS)
    assert "use the full image" in caught.value.output
