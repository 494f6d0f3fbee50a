"""inference-server: the hooks of a plugin, CSV both ways. The entry point beside it names it."""

import os
from typing import Any

import numpy as np
import xgboost
from inference_server import MIMEAccept, plugin_hook


@plugin_hook()
def model_fn(model_dir: str) -> xgboost.Booster:
    return xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])


@plugin_hook()
def input_fn(input_data: bytes, content_type: str) -> Any:
    return np.loadtxt(input_data.decode().splitlines(), delimiter=",", dtype=np.float32, ndmin=2)


@plugin_hook()
def predict_fn(data: Any, model: xgboost.Booster) -> Any:
    return model.inplace_predict(data)


@plugin_hook()
def output_fn(prediction: Any, accept: MIMEAccept) -> tuple[bytes, str]:
    return "\n".join(map(str, prediction.tolist())).encode(), "text/csv"
