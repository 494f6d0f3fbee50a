"""Choice of the device; the tests fake the GPU."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xgboost

from container.algorithms.xgboost import library_log
from container.algorithms.xgboost.training import gpu
from container.algorithms.xgboost.training.gpu import device_for, has_gpu
from train.distributed.cluster import OneHost

ALONE = OneHost("localhost")


class TwoHosts(OneHost):
    def __init__(self) -> None:
        self.hosts = ("algo-1", "algo-2")


class MatrixOnDisk(xgboost.DMatrix):
    """Fake of XGBoost's class, which needs an iterator."""


@pytest.fixture
def matrices() -> dict[str, xgboost.DMatrix]:
    return {"train": xgboost.DMatrix(np.ones((2, 1)), np.ones(2))}


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)


@pytest.mark.usefixtures("_gpu")
@pytest.mark.parametrize(
    ("parameters", "device"),
    [
        ({}, "cuda"),
        ({"tree_method": "auto"}, "cuda"),
        ({"tree_method": "hist", "device": "cuda"}, "cuda"),
        ({"tree_method": "approx", "booster": "dart"}, "cuda"),
        ({"tree_method": "exact"}, "cpu"),
        ({"booster": "gblinear"}, "cpu"),
        ({"updater": "grow_histmaker"}, "cpu"),
    ],
)
def test_gpu_is_used_where_it_can_do_what_the_job_asks_for(
    matrices: dict[str, xgboost.DMatrix], parameters: Mapping[str, Any], device: str
) -> None:
    """No hyperparameter is needed."""
    assert device_for(parameters, matrices, ALONE) == device


@pytest.mark.usefixtures("_gpu")
def test_several_hosts_use_gpus_only_if_asked_to(matrices: dict[str, xgboost.DMatrix]) -> None:
    """Hosts with and without a GPU cannot train together."""
    assert device_for({}, matrices, TwoHosts()) == "cpu"
    assert device_for({"device": "cuda"}, matrices, TwoHosts()) == "cuda"


@pytest.mark.usefixtures("_gpu")
def test_matrix_on_disk_is_trained_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGBoost refuses to use its pages on a GPU."""
    monkeypatch.setattr(xgboost, "ExtMemQuantileDMatrix", MatrixOnDisk)
    matrix = MatrixOnDisk(np.ones((2, 1)), np.ones(2))

    assert device_for({}, {"train": matrix}, ALONE) == "cpu"


@pytest.mark.parametrize("is_built_for_gpus", [False, True])
def test_missing_gpu_is_not_warned_of(
    matrices: dict[str, xgboost.DMatrix],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_built_for_gpus: bool,
) -> None:
    """A job that asks for no GPU is not warned that there is none."""
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": is_built_for_gpus})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    library_log.forward()

    with caplog.at_level(logging.INFO):
        assert not has_gpu()
        assert device_for({}, matrices, ALONE) == "cpu"

    assert caplog.records == []
