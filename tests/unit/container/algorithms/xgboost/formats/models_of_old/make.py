"""Makes `<version>.zip` here: `python make.py` where an old XGBoost is installed.

Of 0.90, 1.0.2, 1.2.1, 1.3.3, 1.5.2 and 1.7.6 each: the models of `MODELS` as that version saves
them, some pickled as well, and `expected.json` with what it predicts for the first records itself.
"""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

HERE = Path(__file__).parent
VERSION = xgboost.__version__
RANDOM = np.random.RandomState(5)
# On paper: cells of which some are missing, in steps that JSON holds exactly.
FEATURES = np.round(RANDOM.randn(60, 3) * 8).astype(np.float32) / 8
FEATURES[RANDOM.rand(60, 3) < 0.1] = np.nan
SUM = np.nan_to_num(FEATURES).sum(axis=1)
CLASSES = np.digitize(SUM, [-0.5, 0.5])
MODELS: dict[str, tuple[dict[str, Any], Any]] = {
    "regression": ({"base_score": 2.5}, SUM),
    "binary": ({"objective": "binary:logistic", "base_score": 0.2}, SUM > 0),
    "logitraw": ({"objective": "binary:logitraw", "base_score": 0.2}, SUM > 0),
    "poisson": ({"objective": "count:poisson"}, CLASSES),
    "classes": ({"objective": "multi:softprob", "num_class": 3}, CLASSES),
    "ranking": ({"objective": "rank:pairwise"}, CLASSES),
    "dart": ({"booster": "dart", "rate_drop": 0.5, "seed": 3}, SUM),
    "linear": ({"booster": "gblinear", "objective": "binary:logistic"}, SUM > 0),
    "forest": ({"num_parallel_tree": 3, "subsample": 0.5, "seed": 1}, SUM),
    "early": ({"eta": 0.9, "stops": True}, SUM),
    "early-forest": ({"num_parallel_tree": 3, "subsample": 0.5, "eta": 0.9, "stops": True}, SUM),
}


def _train(given: dict[str, Any], labels: Any) -> tuple[xgboost.Booster, np.ndarray]:
    features = np.nan_to_num(FEATURES) if given.get("booster") == "gblinear" else FEATURES
    parameters = {"max_depth": 2, "objective": "reg:squarederror", "nthread": 1} | given
    stops = parameters.pop("stops", False)
    data = xgboost.DMatrix(features[:40], labels[:40])
    if parameters["objective"].startswith("rank"):
        data.set_group([20, 20])
    shuffled = xgboost.DMatrix(features[40:], labels[40:] + RANDOM.randn(20) * 2)
    more = {"evals": [(shuffled, "v")], "early_stopping_rounds": 2} if stops else {}
    booster = xgboost.train(parameters, data, 20 if stops else 3, verbose_eval=False, **more)
    return booster, _predict(booster, features, parameters, stops)


def _predict(
    booster: xgboost.Booster, features: Any, parameters: dict[str, Any], stops: bool
) -> np.ndarray:
    matrix = xgboost.DMatrix(features)
    if stops and hasattr(booster, "inplace_predict") and VERSION >= "1.4":
        return booster.predict(matrix, iteration_range=(0, booster.best_iteration + 1))
    n_trees = (booster.best_iteration + 1) * parameters.get("num_parallel_tree", 1) if stops else 0
    if parameters.get("booster") == "dart":
        n_trees = 3  # or 0.90 would drop some
    return booster.predict(matrix, ntree_limit=n_trees) if n_trees else booster.predict(matrix)


def main() -> None:
    """Write the models of this version."""
    expected: dict[str, Any] = {}
    with zipfile.ZipFile(HERE / f"{VERSION}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for kind, (given, labels) in MODELS.items():
            if kind == "early-forest" and VERSION < "1.5":
                continue  # the file does not say how many trees a round has
            booster, predicted = _train(given, np.asarray(labels, dtype=np.float32))
            booster.save_model("a.model")
            archive.write("a.model", kind)
            expected[kind] = predicted[:10].astype(float).tolist()
            if kind in ("binary", "early"):
                archive.writestr(f"{kind}-pickled", pickle.dumps(booster, 4))
                expected[f"{kind}-pickled"] = expected[kind]
        features = np.where(np.isnan(FEATURES), None, FEATURES)[:10].tolist()
        archive.writestr("expected.json", json.dumps({"features": features} | expected))


if __name__ == "__main__":
    main()
