"""Makes the models and the rows that are measured, with the XGBoost of this environment.

A process of its own: if the harness had XGBoost's library mapped, the servers' proportional share
of it would look smaller than it is.

    DIRECTORY/model.ubj              the model
    DIRECTORY/model/xgboost-model    the same file, where SageMaker's servers look for it
    DIRECTORY/rows.json              {"rows": [...], "expected": [...]}
    DIRECTORY/resident.json          big only: {"bytes": growth of a process that loads it}

Usage: python -m benchmarks.harness.make_model small|big|resident DIRECTORY
"""

import ctypes
import gc
import json
import sys
from pathlib import Path

import numpy as np
import xgboost

from benchmarks.harness.process_tree import parse_kilobytes

N_FEATURES = 28
N_ROWS = 1000
BIG_MODEL_BYTES = 500_000_000
_SEED = 20240229
_TREE_BYTES = 10_500_000  # about, of a tree that separates _BIG_ROWS random rows
_BIG_ROWS = 400_000


def make_small(directory: Path) -> None:
    """Train 100 trees of depth 6 on a made-up task, and predict the rows with them."""
    random = np.random.default_rng(_SEED)
    features = random.normal(size=(20_000, N_FEATURES)).astype(np.float32)
    score = features[:, 0] * features[:, 1] + np.sin(features[:, 2:10]).sum(axis=1)
    labels = (score + random.normal(size=len(score)) > 0).astype(np.float32)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1},
        xgboost.DMatrix(features, labels),
        num_boost_round=100,
    )
    _save(booster, directory, random.normal(size=(N_ROWS, N_FEATURES)))


def make_big(directory: Path) -> None:
    """Train as many large trees as make 500 MB, and predict the rows with them."""
    random = np.random.default_rng(_SEED)
    booster = train_on_noise(random, _BIG_ROWS, n_rounds=-(-BIG_MODEL_BYTES // _TREE_BYTES))
    _save(booster, directory, random.random(size=(N_ROWS, N_FEATURES)))


def train_on_noise(
    random: np.random.Generator, n_rows: int, n_rounds: int, **more: object
) -> xgboost.Booster:
    """Train on random labels of random rows: each tree needs about a leaf a row.

    Args:
        more: Further parameters of XGBoost.
    """
    features = random.integers(0, 2, (n_rows, N_FEATURES)).astype(np.float32)
    labels = random.integers(0, 2, n_rows).astype(np.float32)
    parameters = {
        "objective": "binary:logistic",
        "max_depth": N_FEATURES,
        "min_child_weight": 0,
        "reg_lambda": 0.01,
        "eta": 0.01,  # small, so that the last tree has as much to learn as the first
        "max_bin": 2,
        **more,
    }
    data = xgboost.QuantileDMatrix(features, labels, max_bin=2)
    return xgboost.train(parameters, data, num_boost_round=n_rounds)


def measure_resident(directory: Path) -> None:
    """Write by how much this process grows when it loads the model once."""
    libc = ctypes.CDLL(None)

    def private_bytes() -> int:
        gc.collect()
        libc.malloc_trim(0)
        return parse_kilobytes(Path("/proc/self/smaps_rollup").read_text())["Pss_Anon"]

    before = private_bytes()
    booster = xgboost.Booster(model_file=directory / "model.ubj")
    grown = private_bytes() - before
    content = {"bytes": grown, "trees": booster.num_boosted_rounds()}
    (directory / "resident.json").write_text(json.dumps(content))


def _save(booster: xgboost.Booster, directory: Path, rows: np.ndarray) -> None:
    model_dir = directory / "model"
    model_dir.mkdir(parents=True)
    booster.save_model(directory / "model.ubj")
    (model_dir / "xgboost-model").hardlink_to(directory / "model.ubj")
    rows = rows.round(6)  # as short as numbers are that people send
    expected = booster.predict(xgboost.DMatrix(rows.astype(np.float32)))
    content = {"rows": rows.tolist(), "expected": expected.tolist()}
    (directory / "rows.json").write_text(json.dumps(content))


if __name__ == "__main__":
    steps = {"small": make_small, "big": make_big, "resident": measure_resident}
    steps[sys.argv[1]](Path(sys.argv[2]))
