"""`python -m local_test check`: our own algorithms pass, and one that breaks a clause is told."""

from pathlib import Path

import pytest

from local_test import algorithm_check
from local_test.backends import DockerBackend, ProcessBackend
from local_test.ml_tree import MlTree

NUMBERS = b"".join(b"%d,%d,%d.5\n" % (row % 2, row, row % 7) for row in range(60))
CITIES = b"".join(b"%d,%s,%d\n" % (row, (b"Ulm", b"Bonn")[row % 2], row % 7) for row in range(60))

PLUGIN = """
import itertools, os, sys, time
import numpy as np
from container.algorithms.contract import Algorithm

FAULT = os.environ["FAULT"]

class Model:
    n_features = 2
    calls = itertools.count()

    def save(self, directory):
        text = str(time.time_ns()) if FAULT == "time" else "same"
        (directory / "model.txt").write_text(text)

    def predict(self, features):
        sums = np.asarray(features).sum(axis=1)
        if FAULT == "neighbours":
            return sums - sums.mean()
        if FAULT == "memory":
            return sums + (next(self.calls) // 3)
        if FAULT == "exit" and len(sums) > 1:
            os._exit(7)
        return sums

class Faulty(Algorithm):
    name = "faulty"

    def fit(self, job):
        if FAULT == "failure":
            sys.exit("no reason")
        return Model()

    def load(self, directory, manifest, options):
        return Model()

ALGORITHM = Faulty()
"""


def laid_out(root: Path, algorithm: str, body: bytes, **options: str) -> MlTree:
    ml = MlTree(root).create()
    ml.write_hyperparameters({"algorithm": algorithm} | options)
    ml.write_channel("train", {"records.csv": body}, content_type="text/csv")
    return ml


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "body", "options"),
    [
        ("xgboost", NUMBERS, {"num_round": "3", "objective": "binary:logistic"}),
        ("sklearn-forest", NUMBERS, {"n_estimators": "5", "task": "classification"}),
        ("sklearn-preprocessor", CITIES, {}),
    ],
)
def test_own_algorithm_keeps_every_clause(
    tmp_path: Path, algorithm: str, body: bytes, options: dict[str, str]
) -> None:
    """Round trip, same bytes, bad requests, load, reload, many models, SIGTERM."""
    ml = laid_out(tmp_path / "ml", algorithm, body, **options)

    found = list(algorithm_check.run(ProcessBackend(), ml, tmp_path, {}))

    assert [clause for clause, problem in found if problem] == [], found
    assert len(found) == len(algorithm_check.CHECKS)


def test_algorithms_of_the_image_are_checked_alike(image: str, tmp_path: Path) -> None:
    """The same command with a container for every program."""
    ml = laid_out(tmp_path / "ml", "sklearn-preprocessor", CITIES)

    found = list(algorithm_check.run(DockerBackend(image), ml, tmp_path, {}))

    assert [clause for clause, problem in found if problem] == [], found


@pytest.mark.parametrize(
    ("fault", "clause", "problem"),
    [
        ("failure", "a job trains a model", "exit code 1: internal error: SystemExit"),
        ("time", "the same job leaves the same bytes", "other bytes in byoa-manifest.json, model"),
        ("neighbours", "a server answers every record", "another answer alone than among others"),
        ("memory", "requests at once have their own", "other answers than one alone"),
        ("exit", "a server answers every record", "Remote end closed connection"),
    ],
)
def test_broken_clause_is_told(tmp_path: Path, fault: str, clause: str, problem: str) -> None:
    """With what was expected and what was found."""
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms" / "faulty.py").write_text(PLUGIN)
    ml = laid_out(tmp_path / "ml", "faulty", NUMBERS)
    environment = {"BYOA_ALGORITHM_DIR": str(tmp_path / "algorithms"), "FAULT": fault}

    found = dict(algorithm_check.run(ProcessBackend(), ml, tmp_path, environment))

    (told,) = (text for name, text in found.items() if name.startswith(clause))
    assert problem in told, found
