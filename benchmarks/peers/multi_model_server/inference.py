"""multi-model-server: the user's code of AWS's inference toolkit; CSV both ways."""

import os
from typing import Any

import numpy as np
import xgboost


def model_fn(model_dir: str) -> xgboost.Booster:
    return xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])


def input_fn(input_data: str, content_type: str) -> Any:
    return np.loadtxt(input_data.splitlines(), delimiter=",", dtype=np.float32, ndmin=2)


def predict_fn(data: Any, model: xgboost.Booster) -> Any:
    return model.inplace_predict(data)


def output_fn(prediction: Any, accept: str) -> str:
    return "\n".join(map(str, prediction.tolist()))
