"""Whether to train on a GPU: where there is one, and what the job asks for works there.

Source: XGBoost 3.2.0, its documentation, "XGBoost GPU Support", for the tree methods, and
`src/data/extmem_quantile_dmatrix.cu` for matrices on disk.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost

from container.algorithms.contract import Cluster

_TREE_METHODS = ("auto", "hist", "approx")


def has_gpu(device: str = "cuda") -> bool:
    """Whether XGBoost finds a GPU that it can use: any, or with `cuda:1` that one."""
    if not xgboost.build_info()["USE_CUDA"]:
        return False
    with xgboost.config_context(verbosity=0):  # it would warn that it takes the CPU instead
        record = xgboost.DMatrix(np.zeros((1, 1)))  # a booster does not keep it alive
        probe = xgboost.Booster({"device": device}, [record])
        config = json.loads(probe.save_config())
    return str(config["learner"]["generic_param"]["device"]).startswith(device)


def device_for(
    parameters: Mapping[str, Any], matrices: Mapping[str, xgboost.DMatrix], cluster: Cluster
) -> str:
    """`cuda` or `cpu`, as XGBoost calls them.

    Args:
        parameters: What XGBoost will be given; a device in it was asked for.
        matrices: What it will be trained on: pages on disk, made for the CPU, are of no use to a
            GPU.
        cluster: Several hosts may differ in what they find, and must not in what they use.
    """
    if "device" in parameters:
        return str(parameters["device"])
    is_suitable = (
        parameters.get("tree_method", "auto") in _TREE_METHODS
        and parameters.get("booster") != "gblinear"
        and "updater" not in parameters
        and len(cluster.hosts) == 1
        and not isinstance(matrices["train"], xgboost.ExtMemQuantileDMatrix)
    )
    return "cuda" if is_suitable and has_gpu() else "cpu"
