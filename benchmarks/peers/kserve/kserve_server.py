"""KServe SDK: a model class of our own behind the open inference protocol, version 1 (JSON).

Arguments go to KServe's own command line, e.g. ``--http_port 8080 --workers 2``.
"""

import os
from typing import Any

import numpy as np
import xgboost
from kserve import Model, ModelServer


class BoosterModel(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.booster = xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])
        self.ready = True

    def predict(
        self,
        payload: dict[str, Any],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        features = np.asarray(payload["instances"], dtype=np.float32)
        return {"predictions": self.booster.inplace_predict(features).tolist()}


if __name__ == "__main__":
    ModelServer().start([BoosterModel("model")])
