"""MLServer: a runtime of our own behind the open inference protocol, version 2 (JSON)."""

import os

import numpy as np
import xgboost
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class BoosterRuntime(MLModel):
    async def load(self) -> bool:
        self.booster = xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        features = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        predictions = self.booster.inplace_predict(features)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("predict", predictions)]
        )
