"""LitServe: a LitAPI of our own, JSON both ways. Usage: litserve_server.py PORT WORKERS"""

import os
import sys
from typing import Any

import litserve
import numpy as np
import xgboost


class BoosterAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.booster = xgboost.Booster(model_file=os.environ["BENCH_MODEL_FILE"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.asarray(request["instances"], dtype=np.float32)

    def predict(self, x: Any) -> Any:
        return self.booster.inplace_predict(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    server = litserve.LitServer(
        BoosterAPI(),
        accelerator="cpu",
        devices=1,
        workers_per_device=workers,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=2,
        generate_client_file=False,
        log_level="warning",
    )
