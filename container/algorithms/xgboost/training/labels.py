"""Check that labels fit the objective, with errors in terms of the data.

XGBoost accepts some wrong labels and learns nothing; its errors for others name its source code.
"""

import numpy as np

from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.codecs.csv.csv_diagnosis import FOR_PANDAS
from container.codecs.records import Floats
from container.errors import ChannelError

_NOT_NEGATIVE = ("count:poisson", "reg:tweedie", "survival:aft")
_POSITIVE = ("reg:gamma",)
_LEAST_RECORDS = 10  # fewer labels may count up by chance


def check_labels(
    labels: Floats, hyperparameters: XGBoostHyperparameters, *, channel: str, n_before: int = 0
) -> None:
    """Refuse labels, float32 `[n_rows]`, that the objective cannot learn from.

    Args:
        n_before: Number of records of the channel before these.
    Raises:
        ChannelError: naming the channel, the first record at fault and what is accepted.
    """
    objective = hyperparameters.objective or "reg:squarederror"

    def refuse(faulty: np.ndarray[tuple[int], np.dtype[np.bool_]], accepted: str) -> None:
        if faulty.any():
            record = int(np.argmax(faulty))
            first = labels[:_LEAST_RECORDS]
            if n_before == 0 and len(first) == _LEAST_RECORDS and (np.diff(first) == 1).all():
                accepted += f"; they count up by 1, as an index does: leave that out {FOR_PANDAS}"
            raise ChannelError(
                f"channel {channel!r}, record {n_before + record + 1}: label {labels[record]:g} "
                f"does not fit objective={objective!r}; {accepted}"
            )

    if objective.startswith("binary:") or objective == "reg:logistic":
        refuse((labels < 0) | (labels > 1), "labels must lie between 0 and 1")
    elif objective.startswith("multi:"):
        last = (hyperparameters.num_class or 2) - 1
        refuse(
            (labels < 0) | (labels > last) | (labels != np.floor(labels)),
            f"labels must be whole numbers from 0 to {last} (num_class is {last + 1}); "
            "if yours count from 1, subtract 1",
        )
    elif objective in _NOT_NEGATIVE:
        refuse(labels < 0, "labels must not be negative")
    elif objective in _POSITIVE:
        refuse(labels <= 0, "labels must be positive")
