"""Early stopping by the scores alone, worked out by hand."""

import math

from container import hyperparameters
from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.algorithms.lightgbm.training.best_rounds import BestRounds


def _rule(**values: str) -> BestRounds:
    given = {"early_stopping_rounds": "2"} | values
    return BestRounds(hyperparameters.validate(LightGBMHyperparameters, given))


def test_smaller_is_better_for_errors_and_larger_for_auc() -> None:
    """Ends after two rounds without an improvement, and keeps the best."""
    for name, scores in (("validation-l2", [3, 2, 2, 2.5]), ("validation-auc", [0.6, 0.7, 0.7, 0])):
        rule = _rule()
        for score in scores[:3]:
            rule.add({"train-l2": 0, name: score})
            assert not rule.is_over

        rule.add({"train-l2": 0, name: scores[3]})

        assert rule.is_over
        assert rule.best_round == 1


def test_any_metric_ends_training_unless_the_first_alone_counts() -> None:
    """As `first_metric_only` says."""
    rounds = [{"validation-l1": 3 - i, "validation-l2": 1} for i in range(3)]
    every, first = _rule(), _rule(first_metric_only="true")
    for scores in rounds:
        every.add(scores)
        first.add(scores)

    assert (every.is_over, every.best_round) == (True, 0)
    assert (first.is_over, first.best_round) == (False, 2)


def test_improvement_has_a_least_size() -> None:
    """`early_stopping_min_delta`; NaN is worse than any number."""
    rule = _rule(early_stopping_min_delta="0.5")
    for score in (math.nan, 3, 2.6):
        rule.add({"validation-l2": score})

    assert rule.best_round == 1
