"""A k-fold job, and the server of its models."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.datasets import TabularDataset
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun


@pytest.mark.canary
def test_folds_are_trained_and_served_together(
    train: Callable[..., FinishedRun],
    backend: Backend,
    ml: MlTree,
    cancer: TabularDataset,
    features: np.ndarray,
) -> None:
    """`xgboost-model-0` and on; the server says their mean (C-097, C-100)."""
    run = train(
        objective="binary:logistic",
        eval_metric="logloss",
        num_round="6",
        _kfold="3",
        _num_cv_round="2",
        _tuning_objective_metric="validation:logloss",
    )

    assert run.exit_code == 0, run.output
    names = [f"xgboost-model-{number}" for number in range(6)]
    assert ml.model_files() == ("byoa-manifest.json", *names)
    last = [line for line in run.output.splitlines() if line.startswith("[")][-1]
    shown = last.replace("\t", "#011")
    found = re.findall(r".*\[[0-9]+\].*#011validation-logloss:(\S+)", shown)
    assert last.startswith("[6]\t")
    assert 0 < float(found[0]) < 0.3
    n_records = len(cancer.train.splitlines()) + len(cancer.validation.splitlines())
    predictions = (ml.output_data_dir / "predictions.csv").read_text().splitlines()
    assert len(predictions) == n_records
    assert all(re.fullmatch(r"[01],[0-9.e-]+,[01]", line) for line in predictions)

    boosters = [
        xgboost.Booster(model_file=bytearray((ml.model_dir / name).read_bytes())) for name in names
    ]
    expected = np.mean([booster.predict(xgboost.DMatrix(features)) for booster in boosters], axis=0)
    with backend.start_server(ml) as server:
        answer = invoke(server.url, cancer.payload, content_type="text/csv", accept="text/csv")
    served = np.array([float(line) for line in answer.body.decode().split()])
    np.testing.assert_allclose(served, expected, atol=1e-5)
