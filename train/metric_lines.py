"""Metric lines: `[round]<TAB>train-rmse:1.2<TAB>validation-rmse:1.3`, one a round.

Their form is an interface: CloudWatch shows the tab as `#011`, and the expressions that AWS
publishes for its XGBoost image, such as `.*\\[[0-9]+\\].*#011validation-rmse:(\\S+)`, read the
numbers out of the log (C-034, C-100).
"""

from collections.abc import Mapping, Sequence


def line(iteration: int, scores: Mapping[str, float]) -> str:
    """Return the line of one round; scores are named `<channel>-<metric>`."""
    return "\t".join([f"[{iteration}]", *(f"{name}:{score:.5f}" for name, score in scores.items())])


def announce(iteration: int, scores: Mapping[str, float]) -> None:
    """Print the line as plain text, not as JSON, and flush."""
    print(line(iteration, scores), flush=True)


def keep_silent(iteration: int, scores: Mapping[str, float]) -> None:
    """Do nothing: for all hosts but the first, since all have the same scores."""


class Recorder:
    """Metric reporter that prints each round and keeps the history."""

    def __init__(self) -> None:
        self.history: list[Mapping[str, float]] = []

    def report(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Print the line and append the scores to `history`."""
        announce(iteration, scores)
        self.history.append(dict(scores))

    def restore(self, history: Sequence[Mapping[str, float]]) -> None:
        """Set the history to the rounds of an earlier run. Nothing is printed again."""
        self.history = list(history)
