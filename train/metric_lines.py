"""Metric lines: `[round]<TAB>train-rmse:1.2<TAB>validation-rmse:1.3`, one a round.

Their form is an interface: CloudWatch shows the tab as `#011`, and the expressions that AWS
publishes for its XGBoost image, such as `.*\\[[0-9]+\\].*#011validation-rmse:(\\S+)`, read the
numbers out of the log (C-034, C-100).
"""

from collections.abc import Mapping, Sequence


def line(iteration: int, scores: Mapping[str, float]) -> str:
    """The line for one round; scores are named `<channel>-<metric>`."""
    return "\t".join([f"[{iteration}]", *(f"{name}:{score:.5f}" for name, score in scores.items())])


def announce(iteration: int, scores: Mapping[str, float]) -> None:
    """Print the line as it is, not as JSON, and at once."""
    print(line(iteration, scores), flush=True)


def keep_silent(iteration: int, scores: Mapping[str, float]) -> None:
    """For all hosts but the first: the numbers are the same on all."""


class Recorder:
    """Prints each round's metrics and remembers them all."""

    def __init__(self) -> None:
        self.history: list[Mapping[str, float]] = []

    def report(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Print the line, and remember the scores."""
        announce(iteration, scores)
        self.history.append(dict(scores))

    def restore(self, history: Sequence[Mapping[str, float]]) -> None:
        """Begin with the rounds of an earlier run, whose lines were printed then."""
        self.history = list(history)
