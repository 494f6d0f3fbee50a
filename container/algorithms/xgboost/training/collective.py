"""XGBoost's collective communication: one model of the records of all hosts.

XGBoost builds the same trees on every host from histograms that it sums over all of them. Its
tracker, which makes the hosts known to each other, runs on the first one.

Source: XGBoost 3.2.0, `xgboost.collective`, `xgboost.tracker` and `src/collective`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xgboost
from xgboost import collective
from xgboost.tracker import RabitTracker

from container.algorithms.training_contract import Checkpoint, Cluster
from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.errors import HostError, HyperparameterError

# No limit of XGBoost's own: `train.distributed.connection` notices that a host is gone, and a host
# may take long over its share of a round.
_TIMEOUT_SECONDS = 7 * 24 * 3600
# Where XGBoost raises what failed between the hosts, as opposed to on this one.
_BETWEEN_HOSTS = "collective/result.cc"
_UPDATERS_FOR_ONE_HOST = ("grow_colmaker", "prune")


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Connect XGBoost to all hosts: within the block it trains and evaluates on all records.

    Raises:
        HostError: another host is gone.
    """
    if len(cluster.hosts) == 1:
        yield
        return
    tracker = None
    arguments = None
    if cluster.rank == 0:
        tracker = RabitTracker(n_workers=len(cluster.hosts), host_ip=cluster.address, sortby="task")
        tracker.start()
        arguments = tracker.worker_args()
    # Ranks go by the order of the tasks. The context itself would disconnect after errors, too; it
    # knows where NCCL is, which XGBoost needs on GPUs.
    context = collective.CommunicatorContext(
        dmlc_task_id=f"{cluster.rank:04}",
        dmlc_timeout=_TIMEOUT_SECONDS,
        **cluster.gather(arguments)[0],
    )
    try:
        collective.init(**context.args)
        yield
        # Not after an error: it would wait for hosts that wait for this one.
        collective.finalize()
        if tracker is not None:
            tracker.wait_for()
    except xgboost.core.XGBoostError as error:
        if _BETWEEN_HOSTS in str(error):
            raise HostError("the connection to another host broke while training") from error
        raise


def any_host(wanted: bool, cluster: Cluster) -> bool:
    """True if `wanted` is true on any host. Call it within `connected`."""
    if len(cluster.hosts) == 1:
        return wanted
    votes = collective.allreduce(np.array([wanted], dtype=np.int32), collective.Op.MAX)
    return bool(votes[0])


def of_first_host(checkpoint: Checkpoint | None, cluster: Cluster) -> Checkpoint | None:
    """Broadcast the checkpoint of the first host to all. Call it within `connected`."""
    if len(cluster.hosts) == 1:
        return checkpoint
    header: dict[str, Any] | None = None
    body = b""
    if cluster.rank == 0 and checkpoint is not None:
        parts = checkpoint.parts
        header = {"n_rounds": checkpoint.n_rounds, "history": list(checkpoint.history)}
        header["parts"] = {name: len(content) for name, content in parts.items()}
        body = b"".join(parts.values())
    header = cluster.gather(header)[0]
    if header is None:
        return None
    body = _bytes_of_first_host(body, sum(header["parts"].values()))
    parts = {}
    for name, n_bytes in header["parts"].items():
        parts[name], body = body[:n_bytes], body[n_bytes:]
    return Checkpoint(header["n_rounds"], header["history"], parts)


def _bytes_of_first_host(content: bytes, n_bytes: int) -> bytes:
    """Broadcast bytes by all-reduce: XGBoost's own broadcast would unpickle them."""
    own = np.zeros(n_bytes, dtype=np.uint8)
    own[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return collective.allreduce(own, collective.Op.MAX).tobytes()


def check_distributable(hyperparameters: XGBoostHyperparameters, cluster: Cluster) -> None:
    """Refuse options that XGBoost supports on one host only.

    Raises:
        HyperparameterError: naming the hyperparameter and what to use instead.
    """
    if len(cluster.hosts) == 1:
        return
    where = f"does not work on {len(cluster.hosts)} hosts"
    if hyperparameters.kfold:
        raise HyperparameterError("_kfold", f"{where}; set InstanceCount to 1")
    if hyperparameters.booster == "gblinear":  # XGBoost would learn from the first host's records
        raise HyperparameterError(
            "booster", f"'gblinear' {where}; use gbtree or dart, or set InstanceCount to 1"
        )
    if hyperparameters.tree_method == "exact":
        raise HyperparameterError("tree_method", f"'exact' {where}; use hist or approx")
    for updater in hyperparameters.updater or []:
        if updater in _UPDATERS_FOR_ONE_HOST:
            raise HyperparameterError("updater", f"{updater!r} {where}; use tree_method")
    if hyperparameters.objective == "survival:cox":
        raise HyperparameterError("objective", f"'survival:cox' {where}; set InstanceCount to 1")
    if "cox-nloglik" in (hyperparameters.eval_metric or []):
        raise HyperparameterError("eval_metric", f"'cox-nloglik' {where}")
