"""Early stopping by LightGBM's rule, as a function of the scores alone.

Training ends once any metric of `validation` has had no improvement for a number of rounds (the
patience). LightGBM's own callback cannot restore its state; this class is fed the scores of the
earlier rounds again.
"""

from collections.abc import Mapping

from container.algorithms.lightgbm.lightgbm_hyperparameters import (
    LightGBMHyperparameters,
    is_better_larger,
)

_CHANNEL = "validation-"


class BestRounds:
    """The best round by each metric of `validation`."""

    def __init__(self, hyperparameters: LightGBMHyperparameters) -> None:
        self._patience = hyperparameters.early_stopping_round or 0
        self._min_delta = hyperparameters.early_stopping_min_delta
        self._watches_first_only = hyperparameters.first_metric_only
        self._best: dict[str, tuple[int, float]] = {}
        self._n_rounds = 0

    def add(self, scores: Mapping[str, float]) -> None:
        """Add the scores of the next round."""
        for name, score in scores.items():
            if not name.startswith(_CHANNEL):
                continue
            if name not in self._best or self._is_better(name, score):
                self._best[name] = self._n_rounds, score
        self._n_rounds += 1

    @property
    def best_round(self) -> int:
        """The round to keep: the best by the metric that ends training, or else by the first."""
        return next((best for best, _ in self._watched() if self._is_due(best)), self._first())

    @property
    def is_over(self) -> bool:
        """True if the patience with a metric is used up."""
        return any(self._is_due(best) for best, _ in self._watched())

    def _is_due(self, best: int) -> bool:
        return self._n_rounds - 1 - best >= self._patience

    def _is_better(self, name: str, score: float) -> bool:
        best = self._best[name][1]
        if best != best:  # NaN is worse than any number
            return score == score
        if is_better_larger(name.removeprefix(_CHANNEL)):
            return score > best + self._min_delta
        return score < best - self._min_delta

    def _watched(self) -> list[tuple[int, float]]:
        every = list(self._best.values())
        return every[:1] if self._watches_first_only else every

    def _first(self) -> int:
        return next(iter(self._best.values()))[0]
