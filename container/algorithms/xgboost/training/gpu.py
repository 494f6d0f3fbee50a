"""Choice of CPU or GPU: a GPU if there is one and the parameters work there.

Source: XGBoost 3.2.0, its documentation, "XGBoost GPU Support", for the tree methods, and
`src/data/extmem_quantile_dmatrix.cu` for matrices on disk.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost

from container.algorithms.training_contract import Cluster

_TREE_METHODS = ("auto", "hist", "approx")


def has_gpu(device: str = "cuda") -> bool:
    """True if XGBoost finds a usable GPU: any, or with `cuda:1` that one."""
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
    """Return XGBoost's name of the device to train on, `cuda` or `cpu`.

    Args:
        parameters: Parameters for XGBoost; a device among them is taken as it is.
        matrices: Training data; pages on disk are made for the CPU.
        cluster: Hosts may have different devices and must use the same kind.
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
