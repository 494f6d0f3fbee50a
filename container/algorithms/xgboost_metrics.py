"""The evaluation metrics that a job may ask for, and which way each is better.

Source: CONTRACT 7.2.
"""

import re
from collections.abc import Iterable

from container.errors import HyperparameterError

MAXIMIZED = frozenset({"auc", "aucpr", "map", "ndcg"})
MINIMIZED = frozenset(
    {
        "aft-nloglik",
        "cox-nloglik",
        "error",
        "gamma-deviance",
        "gamma-nloglik",
        "interval-regression-accuracy",
        "logloss",
        "mae",
        "mape",
        "merror",
        "mlogloss",
        "mphe",
        "poisson-nloglik",
        "rmse",
        "rmsle",
        "tweedie-nloglik",
    }
)
_KNOWN = MAXIMIZED | MINIMIZED
# `error@0.7` counts above another threshold, `ndcg@5` and `map@5-` look at the top of each list.
_WITH_THRESHOLD = re.compile(r"error@(\d+\.?\d*|\.\d+)", re.ASCII)
_WITH_LENGTH = re.compile(r"(ndcg|map)@\d+-?|(ndcg|map)-", re.ASCII)
_WITH_POWER = re.compile(r"tweedie-nloglik@1\.\d+", re.ASCII)


def is_better_larger(metric: str) -> bool:
    """Whether training should raise `metric` rather than lower it."""
    return re.split("[@-]", metric, maxsplit=1)[0] in MAXIMIZED


def check_metrics(metrics: Iterable[str], objective: str | None) -> None:
    """Refuse a metric that is unknown or does not fit the objective.

    Raises:
        HyperparameterError: for `eval_metric`, naming the metric.
    """
    for metric in metrics:
        if not (metric in _KNOWN or _has_argument(metric)):
            raise HyperparameterError(
                "eval_metric",
                f"{metric!r} is not known; use some of {', '.join(sorted(_KNOWN))}, "
                "or error@t, ndcg@n, map@n",
            )
        if metric == "auc" and not (objective or "").startswith(("binary:", "rank:")):
            raise HyperparameterError(
                "eval_metric", f"'auc' needs a binary or rank objective; given: {objective}"
            )
        if metric == "aft-nloglik" and objective != "survival:aft":
            raise HyperparameterError(
                "eval_metric", f"'aft-nloglik' needs objective 'survival:aft'; given: {objective}"
            )


def _has_argument(metric: str) -> bool:
    patterns = (_WITH_THRESHOLD, _WITH_LENGTH, _WITH_POWER)
    return any(pattern.fullmatch(metric) for pattern in patterns)
