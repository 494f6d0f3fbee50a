"""Result files of a job in `/opt/ml/output/data`, beside its model.

metrics.json               the final scores, and those of every round
feature_importances.json   how much each feature counts, by each measure of the algorithm
learning_curve.png         the scores of every round, drawn
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from container.algorithms.training_contract import TrainedModel, WithImportances
from train import learning_curve

logger = logging.getLogger(__name__)

METRICS, IMPORTANCES, CURVE = "metrics.json", "feature_importances.json", "learning_curve.png"


def write(
    directory: Path,
    history: Sequence[Mapping[str, float]],
    best_iteration: int | None,
    model: TrainedModel,
) -> None:
    """Write all result files. The model is saved by now: a failure here is logged, not raised.

    Args:
        directory: Created where it is absent.
        history: Reported scores, one entry a round, rounds before a resumption included.
        best_iteration: Of the saved model; None stands for its last round.
        model: Source of the feature importances.
    """
    writers: dict[str, Callable[[Path], object]] = {
        METRICS: lambda file: file.write_bytes(_json(_metrics(history, best_iteration))),
        IMPORTANCES: lambda file: file.write_bytes(_json(_importances(model))),
        CURVE: lambda file: learning_curve.draw(history, best_iteration, file) if history else None,
    }
    for name, write_one in writers.items():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_one(directory / name)
        except Exception as error:  # noqa: BLE001 -- the model is what counts
            logger.warning("artifact_not_written", extra={"file": name, "reason": str(error)})


def _importances(model: TrainedModel) -> Mapping[str, Mapping[str, float]]:
    return model.importances() if isinstance(model, WithImportances) else {}


def _metrics(
    history: Sequence[Mapping[str, float]], best_iteration: int | None
) -> dict[str, object]:
    final = len(history) - 1 if best_iteration is None else best_iteration
    return {
        "n_rounds": len(history),
        "best_iteration": best_iteration,
        "metrics": history[final] if history else {},
        "history": {name: [scores.get(name) for scores in history] for name in history[0]}
        if history
        else {},
    }


def _json(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
