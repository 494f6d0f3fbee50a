"""Scikit-learn's algorithms as a user has them: train, serve, chain."""

import json
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from tests.blackbox.processes import wait_for_workers

HOUSES = b"price,city,area\n" + b"".join(
    b"%d,%s,%d\n" % (2 * area + 100 * (city == b"Bonn"), city, area)
    for area in range(50, 90)
    for city in (b"Ulm", b"Bonn")
)
ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


def trained(
    backend: Backend, root: Path, algorithm: str, body: bytes, content_type: str, **options: str
) -> MlTree:
    ml = MlTree(root).create()
    ml.write_hyperparameters({"algorithm": algorithm} | options)
    ml.write_channel("train", {"houses.csv": body}, content_type=content_type)
    run = backend.run_training(ml)
    assert run.exit_code == 0, run.output
    return ml


@pytest.mark.canary
def test_preprocessor_and_linear_model_are_a_pipeline(backend: Backend, tmp_path: Path) -> None:
    """The answer of one container is the request of the next (C-098)."""
    header = "text/csv; header=present"
    first = trained(backend, tmp_path / "first", "sklearn-preprocessor", HOUSES, header)
    prices, _, records = zip(*(line.partition(b",") for line in HOUSES.split()[1:]), strict=True)
    with backend.start_server(first, environment=ONE_WORKER) as server:
        rows = invoke(server.url, b"\n".join(records), content_type="text/csv")
        unknown = invoke(server.url, b"Rome,70\n", content_type="text/csv")
        named = b'{"area": 70, "city": "Ulm"}'
        asked = invoke(server.url, named, content_type="application/json")
        wrong = invoke(server.url, b"Ulm,large\n", content_type="text/csv")

    assert rows.status == unknown.status == asked.status == 200
    assert unknown.body.split(b",")[:2] == [b"0.0", b"0.0"]
    assert wrong.status == 400
    assert "line 1: column 2 ('area')" in json.loads(wrong.body)["error"]["message"]

    pairs = zip(prices, rows.body.splitlines(), strict=True)
    table = b"".join(price + b"," + row + b"\n" for price, row in pairs)
    second = trained(backend, tmp_path / "second", "sklearn-linear", table, "text/csv")
    with backend.start_server(second, environment=ONE_WORKER) as server:
        answer = invoke(server.url, rows.body, content_type="text/csv")

    found = np.array(answer.body.split(), dtype=float)
    np.testing.assert_allclose(found, np.array(prices, dtype=float), rtol=1e-4)


def test_server_of_one_algorithm_has_no_other_framework(backend: Backend, tmp_path: Path) -> None:
    """Nothing of XGBoost for a forest, nothing of either for a linear model."""
    lines = b"".join(b"%d,%d,%d\n" % (row % 2, row, row % 7) for row in range(60))
    loaded = {}
    for algorithm, options in (("sklearn-linear", {}), ("sklearn-forest", {"n_estimators": "5"})):
        given = {"task": "classification"} | options
        ml = trained(backend, tmp_path / algorithm, algorithm, lines, "text/csv", **given)
        with backend.start_server(ml, environment=ONE_WORKER) as server:
            assert invoke(server.url, b"1,1\n", content_type="text/csv").status == 200
            (worker,) = wait_for_workers(server, 1)
            loaded[algorithm] = Path(f"/proc/{worker}/maps").read_text()

    assert "sklearn/" not in loaded["sklearn-linear"]
    assert "sklearn/" in loaded["sklearn-forest"]
    for maps in loaded.values():
        assert "libxgboost" not in maps
        assert "lightgbm" not in maps
