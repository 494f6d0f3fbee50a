"""Check that labels fit the objective, with errors in terms of the data.

LightGBM's own errors name its source code, or come after an hour of binning.
"""

import numpy as np

from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.codecs.records import Floats
from container.errors import ChannelError

_SHARES = ("cross_entropy", "cross_entropy_lambda")
_NOT_NEGATIVE = ("poisson", "tweedie")
_DEFAULT_GAINS = 31  # of LightGBM's `label_gain`


def check_target(
    labels: Floats, hyperparameters: LightGBMHyperparameters, *, channel: str, n_before: int = 0
) -> None:
    """Refuse labels, float32 `[n_rows]`, that the objective cannot learn from.

    Args:
        n_before: Number of records of the channel before these.
    Raises:
        ChannelError: naming the channel, the first record at fault and what is accepted.
    """
    objective = hyperparameters.objective

    def refuse(faulty: np.ndarray[tuple[int], np.dtype[np.bool_]], accepted: str) -> None:
        if faulty.any():
            record = int(np.argmax(faulty))
            raise ChannelError(
                f"channel {channel!r}, record {n_before + record + 1}: label {labels[record]:g} "
                f"does not fit objective={objective!r}; {accepted}"
            )

    if objective == "binary":
        refuse((labels != 0) & (labels != 1), "labels must be 0 or 1")
    elif objective in ("multiclass", "multiclassova"):
        last = (hyperparameters.num_class or 2) - 1
        refuse(
            (labels < 0) | (labels > last) | (labels != np.floor(labels)),
            f"labels must be whole numbers from 0 to {last} (num_class is {last + 1}); "
            "if yours count from 1, subtract 1",
        )
    elif hyperparameters.is_ranking:
        last = len(hyperparameters.label_gain or range(_DEFAULT_GAINS)) - 1
        refuse(
            (labels < 0) | (labels > last) | (labels != np.floor(labels)),
            f"labels must be whole numbers from 0 to {last}, grades of relevance (label_gain has "
            f"{last + 1} elements)",
        )
    elif objective in _SHARES:
        refuse((labels < 0) | (labels > 1), "labels must lie between 0 and 1")
    elif objective in _NOT_NEGATIVE:
        refuse(labels < 0, "labels must not be negative")
    elif objective == "gamma":
        refuse(labels <= 0, "labels must be positive")
