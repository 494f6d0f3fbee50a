"""Early stopping that survives an interruption: a function of the scores alone.

The rule is that of XGBoost's own callback: stop after a number of consecutive rounds (the patience)
without an improvement. The callback cannot restore its state; this class is fed the scores of the
earlier rounds again.
"""

import math
from collections.abc import Mapping

from container.algorithms.xgboost.evaluation_metrics import is_better_larger
from container.errors import TrainingError

_CHANNEL = "validation"


class EarlyStopping:
    """Early stopping on one metric of `validation`."""

    def __init__(self, *, patience: int, metric: str | None) -> None:
        """Watch `metric`, by default the last one that is there, and wait `patience` rounds."""
        self.best_round = 0
        self.best_score = math.nan
        self._patience = patience
        self._metric = metric
        self._n_rounds = 0

    def add(self, scores: Mapping[str, float]) -> bool:
        """Add the scores of the next round; return True if it is the best so far.

        Raises:
            TrainingError: no round had a number for a score, so there is no best one to keep.
        """
        name = self._watched(scores)
        score = scores[name]
        is_better = self._n_rounds == 0 or _is_better(score, self.best_score, name)
        if is_better:
            self.best_round, self.best_score = self._n_rounds, score
        self._n_rounds += 1
        if self.is_over and math.isnan(self.best_score):
            raise TrainingError(
                f"{name} was not a number in any of {self._n_rounds} rounds, so early stopping has "
                "nothing to go by; 'auc' and 'aucpr' need two classes in 'validation', on each "
                "host: give it both, name another eval_metric last, or leave out "
                "early_stopping_rounds"
            )
        return is_better

    @property
    def is_over(self) -> bool:
        """True if the patience is used up."""
        return self._n_rounds - 1 - self.best_round >= self._patience

    def _watched(self, scores: Mapping[str, float]) -> str:
        if self._metric is not None:
            return f"{_CHANNEL}-{self._metric}"
        return [name for name in scores if name.startswith(f"{_CHANNEL}-")][-1]


def _is_better(score: float, best: float, name: str) -> bool:
    """Compare two scores; NaN is worse than any number, and not better than NaN."""
    if math.isnan(score) or math.isnan(best):
        return not math.isnan(score)
    return score > best if is_better_larger(name.partition("-")[2]) else score < best
