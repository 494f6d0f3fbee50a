"""The evaluation metrics that a job may ask for: XGBoost's own, and those that it lacks.

The latter are what scikit-learn computes under the same names, unweighted, on predicted classes.

Source: XGBoost 3.2.0 and 3.4.1; AWS's XGBoost container for which average each name means.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.errors import HyperparameterError

Vector = NDArray[Any]

_MAXIMIZED_BY_XGBOOST = frozenset({"ams", "auc", "aucpr", "map", "ndcg", "pre"})
_OF_LISTS = frozenset({"map", "ndcg", "pre"})
_MINIMIZED_BY_XGBOOST = frozenset(
    {
        *("aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik"),
        *("interval-regression-accuracy", "logloss", "mae", "mape", "merror", "mlogloss", "mphe"),
        *("poisson-nloglik", "rmse", "rmsle", "tweedie-nloglik", "quantile", "expectile"),
    }
)
# `error@0.7` counts above another threshold, `ndcg@5` and `map@5-` look at the top of each list.
_WITH_THRESHOLD = re.compile(r"error@(\d++\.?\d*+|\.\d++)", re.ASCII)
_WITH_LENGTH = re.compile(r"(ndcg|map|pre)@\d+-?|(ndcg|map|pre)-", re.ASCII)
_WITH_RATIO = re.compile(r"ams@(0?\.\d+|1)", re.ASCII)
_WITH_POWER = re.compile(r"tweedie-nloglik@1\.\d+", re.ASCII)


Gather = Callable[[Any], list[Any]]
"""All-gather: sends a value that JSON can hold to all hosts and returns the value of each."""


@dataclass(frozen=True, slots=True)
class _Classes:
    """Counts per class of correct predictions, predictions and labels; arrays `[n_classes]`."""

    names: Vector
    n_right: Vector
    n_predicted: Vector
    n_actual: Vector

    @classmethod
    def count(cls, labels: Vector, predicted: Vector, gather: Gather) -> "_Classes":
        """Count the records of all hosts."""
        own_names = np.union1d(labels, predicted)

        def frequency(values: Vector) -> list[int]:
            return [int((values == name).sum()) for name in own_names]

        right = labels[labels == predicted]
        own = [own_names.tolist(), *map(frequency, (right, predicted, labels))]
        all_names, *all_counts = (np.concatenate(part) for part in zip(*gather(own), strict=True))
        names, indices = np.unique(all_names, return_inverse=True)
        return cls(names, *(np.bincount(indices, counts, len(names)) for counts in all_counts))

    def precision(self) -> Vector:
        return _ratio(self.n_right, self.n_predicted)

    def recall(self) -> Vector:
        return _ratio(self.n_right, self.n_actual)

    def f1(self) -> Vector:
        return _ratio(2 * self.n_right, self.n_predicted + self.n_actual)

    def accuracy(self) -> float:
        """Return the accuracy, which equals precision and recall in micro average."""
        return float(self.n_right.sum() / self.n_actual.sum())

    def balanced_accuracy(self) -> float:
        return float(self.recall()[self.n_actual > 0].mean())

    def of_positive(self, scores: Vector) -> float:
        """Return the score of class 1, of the classes 0 and 1."""
        return float(scores[self.names == 1].sum())


def _ratio(above: Vector, below: Vector) -> Vector:
    """Divide; 0 / 0 is 0, as in scikit-learn."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


_OF_CLASSES: dict[str, Callable[[_Classes], float]] = {
    "accuracy": _Classes.accuracy,
    "balanced_accuracy": _Classes.balanced_accuracy,
    "f1": lambda classes: float(classes.f1().mean()),
    "f1_binary": lambda classes: classes.of_positive(classes.f1()),
    "f1_macro": lambda classes: float(classes.f1().mean()),
    "precision": lambda classes: classes.of_positive(classes.precision()),
    "precision_macro": lambda classes: float(classes.precision().mean()),
    "precision_micro": _Classes.accuracy,
    "recall": lambda classes: classes.of_positive(classes.recall()),
    "recall_macro": lambda classes: float(classes.recall().mean()),
    "recall_micro": _Classes.accuracy,
}


@dataclass(frozen=True, slots=True)
class _Values:
    """Sums of squares: of the labels around their mean, and of the errors."""

    n: int
    mean_label: float
    spread: float
    error: float

    @classmethod
    def sum(cls, labels: Vector, predicted: Vector, gather: Gather) -> "_Values":
        """Sum over the records of all hosts."""
        own = cls._of(labels.astype(np.float64), predicted.astype(np.float64))
        return reduce(cls._joined, (cls(*sums) for sums in gather(astuple(own))))

    @classmethod
    def _of(cls, labels: Vector, predicted: Vector) -> "_Values":
        mean = float(labels.mean()) if labels.size else 0.0
        spread = float(np.sum((labels - mean) ** 2))
        return cls(labels.size, mean, spread, float(np.sum((labels - predicted) ** 2)))

    def _joined(self, other: "_Values") -> "_Values":
        n = self.n + other.n
        if n == 0:
            return self
        # Chan, Golub and LeVeque 1983: differences of large sums of squares would lose digits.
        distance = other.mean_label - self.mean_label
        return _Values(
            n,
            self.mean_label + distance * other.n / n,
            self.spread + other.spread + distance**2 * self.n * other.n / n,
            self.error + other.error,
        )

    def mean_squared_error(self) -> float:
        return self.error / self.n

    def r2(self) -> float:
        return 1 - self.error / self.spread if self.spread else 0.0


_OF_VALUES: dict[str, Callable[[_Values], float]] = {
    "mse": _Values.mean_squared_error,
    "r2": _Values.r2,
}
_OURS = frozenset({*_OF_CLASSES, *_OF_VALUES})
_KNOWN = (_MAXIMIZED_BY_XGBOOST - {"ams"}) | _MINIMIZED_BY_XGBOOST | _OURS
# Of XGBoost's own, which it computes from several probabilities a record; the other metrics it
# refuses there, or computes numbers that mean nothing.
_OF_PROBABILITIES = frozenset({"merror", "mlogloss", "auc", "aucpr"})
_BY_OBJECTIVE = {
    "aft-nloglik": "survival:aft",
    "interval-regression-accuracy": "survival:aft",
    "quantile": "reg:quantileerror",
    "expectile": "reg:expectileerror",
}


def is_better_larger(metric: str) -> bool:
    """True if a larger value of `metric` is better."""
    name = re.split("[@-]", metric, maxsplit=1)[0]
    return name in _MAXIMIZED_BY_XGBOOST or (metric in _OURS and metric != "mse")


def is_of_lists(metric: str) -> bool:
    """True if the metric depends on the order of the records in each list."""
    return re.split("[@-]", metric, maxsplit=1)[0] in _OF_LISTS


def is_ours(metric: str) -> bool:
    """True if this module computes the metric, since XGBoost lacks it."""
    return metric in _OURS


def names_for_xgboost(metrics: Iterable[str], tweedie_power: float) -> dict[str, str]:
    """Return XGBoost's name of each of its metrics, by the name that the job uses.

    It prints `error@0.50` as `error`, and drops a metric whose name it has printed already. Metrics
    that are the same to it get the same name here, so each different one is printed, in this order.

    Args:
        metrics: Names that `check_metrics` accepts.
        tweedie_power: Power for which `tweedie-nloglik` is computed.
    """
    by_printed: dict[str, str] = {}
    names: dict[str, str] = {}
    for metric in metrics:
        if not is_ours(metric):
            full = f"{metric}@{tweedie_power}" if metric == "tweedie-nloglik" else metric
            names[metric] = by_printed.setdefault(_as_printed(full), full)
    return names


def check_metrics(metrics: Iterable[str], objective: str | None, *, n_outputs: int = 1) -> None:
    """Refuse a metric that is unknown or does not fit the objective.

    Args:
        metrics: As the job names them.
        objective: The job's; XGBoost's default without one.
        n_outputs: How many numbers the model predicts for a record.
    Raises:
        HyperparameterError: for `eval_metric`, naming the metric.
    """
    given = objective or "reg:squarederror"
    for metric in metrics:
        if not (metric in _KNOWN or _has_argument(metric)):
            raise HyperparameterError(
                "eval_metric",
                f"{metric!r} is not known; use some of {', '.join(sorted(_KNOWN))}, "
                "or error@t, ndcg@n, map@n, pre@n, ams@t",
            )
        if needed := _needed_by(metric, given, n_outputs):
            raise HyperparameterError("eval_metric", f"{metric!r} needs {needed}; given: {given}")


def _needed_by(metric: str, objective: str, n_outputs: int) -> str | None:
    """Return the requirement of a metric that the job does not meet; None if it meets all."""
    is_multi = objective.startswith("multi:")
    is_binary = objective.startswith("binary:")
    needed = _BY_OBJECTIVE.get(metric)
    if needed:
        return None if objective == needed else f"objective {needed!r}"
    if metric in ("merror", "mlogloss") and not is_multi:
        return "a multi objective"
    if metric in _OF_CLASSES and not (is_binary or is_multi):
        return "a binary or multi objective"
    if metric in ("f1_binary", "precision", "recall") and not is_binary:
        return "a binary objective"
    if is_multi and metric not in _OURS | _OF_PROBABILITIES:
        return "one prediction a record; use merror or mlogloss for a multi objective"
    if n_outputs > 1 and not is_multi:
        return "one prediction a record, and the model has several outputs; leave it out"
    return None


def evaluator(
    metrics: Sequence[str], objective: str, gather: Gather
) -> Callable[[Vector, Any], list[tuple[str, float]]]:
    """Return a function that computes the metrics that XGBoost lacks, after each round.

    The function takes predictions, `[n_rows]` or `[n_rows, n_classes]`, and the matrix with the
    labels. It returns the exact metrics of the records of all hosts.
    """
    of_classes = [metric for metric in metrics if metric in _OF_CLASSES]
    of_values = [metric for metric in metrics if metric in _OF_VALUES]

    def evaluate(predictions: Vector, matrix: Any) -> list[tuple[str, float]]:
        labels = matrix.get_label()
        if not labels.size:  # of a host without records; the shape differs between versions
            predictions = labels
        scores: dict[str, float] = {}
        if of_classes:
            classes = _Classes.count(labels, _predicted_classes(predictions, objective), gather)
            scores |= {metric: _OF_CLASSES[metric](classes) for metric in of_classes}
        if of_values:
            # Of probabilities the class, as `multi:softmax` gives it.
            predicted = np.argmax(predictions, axis=1) if predictions.ndim > 1 else predictions
            values = _Values.sum(labels, predicted, gather)
            scores |= {metric: _OF_VALUES[metric](values) for metric in of_values}
        return [(metric, scores[metric]) for metric in metrics]

    return evaluate


def _predicted_classes(predictions: Vector, objective: str) -> Vector:
    if predictions.ndim > 1:
        classes: Vector = np.argmax(predictions, axis=1)
        return classes
    if objective == "multi:softmax":
        return predictions
    return (predictions > (0 if objective == "binary:logitraw" else 0.5)).astype(np.float32)


def _as_printed(metric: str) -> str:
    """Return the name that XGBoost 3.2.0 prints: thresholds and powers have six digits."""
    name, _, number = metric.partition("@")
    if name not in ("error", "tweedie-nloglik") or not number:
        return metric
    value = float(np.float32(number))
    return name if name == "error" and value == 0.5 else f"{name}@{value:g}"


def _has_argument(metric: str) -> bool:
    patterns = (_WITH_THRESHOLD, _WITH_LENGTH, _WITH_POWER, _WITH_RATIO)
    return any(pattern.fullmatch(metric) for pattern in patterns)
