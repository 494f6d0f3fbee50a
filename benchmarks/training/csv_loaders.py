"""Peers that load CSV into XGBoost, as programs of their own, and the comparison of models.

Run by the harness in the environment of the classic peer:
`python csv_loaders.py pandas|aws CSV_FILE MODEL_FILE PARAMETERS`, and `compare CSV_FILE MODEL…`.
Marks go to standard output as `@name`; the harness takes the time.
"""

import csv
import json
import sys
from typing import Any

import xgboost

_COMPARED_ROWS = 20_000


def load_with_pandas(file: str) -> xgboost.DMatrix:
    """Load with `pandas.read_csv`, the common first approach."""
    import pandas

    frame = pandas.read_csv(file, header=None)
    matrix = xgboost.DMatrix(frame.iloc[:, 1:], label=frame.iloc[:, 0])
    matrix.feature_names = None  # else the column numbers, which no other data would have
    return matrix


def load_as_aws(file: str) -> xgboost.DMatrix:
    """Load as AWS's own container: it sniffs the delimiter, and XGBoost reads the text."""
    with open(file) as stream:
        delimiter = csv.Sniffer().sniff(stream.readline()).delimiter
    return xgboost.DMatrix(f"{file}?format=csv&label_column=0&delimiter={delimiter}")


LOADERS = {"pandas": load_with_pandas, "aws": load_as_aws}


class _FirstRound(xgboost.callback.TrainingCallback):
    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch == 0:
            _mark("first_round")
        return False


def _mark(name: str) -> None:
    print(f"@{name}", flush=True)


def train(loader: str, file: str, model_file: str, parameters: str) -> None:
    """Load, train and save."""
    given = json.loads(parameters)
    n_rounds = int(given.pop("num_round"))
    if loader == "pandas":
        import pandas  # noqa: F401 -- imports are left out of the times
    _mark("begin")
    matrix = LOADERS[loader](file)
    _mark("loaded")
    booster = xgboost.train(
        given,
        matrix,
        n_rounds,
        evals=[(matrix, "train")],
        verbose_eval=False,
        callbacks=[_FirstRound()],
    )
    booster.save_model(model_file)


def compare(file: str, *model_files: str) -> None:
    """Print the log loss of each model, and how far each one's predictions are from the first's."""
    import numpy as np
    import pandas

    rows = pandas.read_csv(file, header=None, nrows=_COMPARED_ROWS).to_numpy(dtype=np.float32)
    data = xgboost.DMatrix(rows[:, 1:], rows[:, 0])
    found = []
    for model_file in model_files:
        predictions = xgboost.Booster(model_file=model_file).predict(data)
        chosen = np.where(rows[:, 0] > 0, predictions, 1 - predictions)
        found.append((predictions, float(-np.log(chosen).mean())))
    first = found[0][0]
    print(
        json.dumps(
            [
                {"logloss": loss, "mean_difference": float(np.abs(predictions - first).mean())}
                for predictions, loss in found
            ]
        )
    )


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "compare":
        compare(*arguments)
    else:
        train(verb, *arguments)
