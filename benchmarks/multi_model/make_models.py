"""Makes models with the XGBoost of this environment, in a process of its own.

    DIRECTORY/models/<name>/model/xgboost-model    where SageMaker unpacks an archive
    DIRECTORY/expected.json                        {"row": [...], "expected": {"<name>": x, ...}}

Usage: python -m benchmarks.multi_model.make_models small COUNT DIRECTORY
       python -m benchmarks.multi_model.make_models article|medium DIRECTORY
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xgboost

from benchmarks.harness.make_model import N_FEATURES, train_on_noise

_SEED = 20240229
_SMALL_ROWS = 400
_ARTICLE_ROWS = 20_000
_MEDIUM_ROWS = 100_000
_MEDIUM_ROUNDS = 10

NamedBoosters = Iterator[tuple[str, xgboost.Booster]]


def small(count: int) -> NamedBoosters:
    """Train as many models of 20 trees of depth 4, no two alike."""
    random = np.random.default_rng(_SEED)
    features = random.normal(size=(_SMALL_ROWS, N_FEATURES)).astype(np.float32)
    parameters = {"objective": "binary:logistic", "max_depth": 4, "eta": 0.3, "nthread": 1}
    data = xgboost.DMatrix(features)
    for index in range(count):
        weights = random.normal(size=N_FEATURES)
        noise = random.normal(size=_SMALL_ROWS)
        data.set_label((features @ weights + noise > 0).astype(np.float32))
        yield f"m{index:05}", xgboost.train(parameters, data, num_boost_round=20)


def article() -> NamedBoosters:
    """Train one model of 100 trees of depth 6, half a megabyte."""
    random = np.random.default_rng(_SEED)
    features = random.normal(size=(_ARTICLE_ROWS, N_FEATURES)).astype(np.float32)
    score = features[:, 0] * features[:, 1] + features[:, 2]
    labels = (score + random.normal(size=_ARTICLE_ROWS) > 0).astype(np.float32)
    parameters = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1}
    yield "article", xgboost.train(parameters, xgboost.DMatrix(features, labels), 100)


def medium() -> NamedBoosters:
    """Train one model of about 25 MB."""
    random = np.random.default_rng(_SEED)
    yield "medium", train_on_noise(random, _MEDIUM_ROWS, _MEDIUM_ROUNDS, nthread=1)


def write(boosters: NamedBoosters, directory: Path) -> None:
    """Save each model as a server expects it, and its prediction for one row."""
    row = np.random.default_rng(_SEED).normal(size=(1, N_FEATURES)).round(6)
    expected = {}
    for name, booster in boosters:
        model_dir = directory / "models" / name / "model"
        model_dir.mkdir(parents=True)
        (model_dir / "xgboost-model").write_bytes(booster.save_raw("ubj"))
        expected[name] = float(booster.predict(xgboost.DMatrix(row.astype(np.float32)))[0])
    content = {"row": row[0].tolist(), "expected": expected}
    (directory / "expected.json").write_text(json.dumps(content))


def main(arguments: list[str]) -> None:
    """Make the models that the command line names."""
    match arguments:
        case ["small", count, directory]:
            write(small(int(count)), Path(directory))
        case ["article", directory]:
            write(article(), Path(directory))
        case ["medium", directory]:
            write(medium(), Path(directory))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
