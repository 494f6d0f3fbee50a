"""Estimators in skops files, which hold data and the names of types, and no code.

A file may name no type but scikit-learn's and NumPy's own that are listed here. `load` is called
only after the same file has been loaded in a process that may crash.

Source: skops 0.16, "Secure persistence with skops".
"""

from pathlib import Path
from typing import Any

from container.errors import ModelLoadError

FILE = "model.skops"
# Beyond those that skops trusts itself: compiled parts of scikit-learn without a public name.
_TRUSTED = (
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.tree._tree.Tree",
)


def save(estimator: Any, directory: Path) -> None:
    """Write a fitted estimator; raises `ModelLoadError` if `load` would refuse the file."""
    import skops.io  # type: ignore[import-untyped]

    skops.io.dump(estimator, directory / FILE)
    _check(directory / FILE)


def load(directory: Path) -> Any:
    """Load an estimator.

    Raises:
        ModelLoadError: the file is missing or damaged, or names a type that is not listed.
    """
    import skops.io

    file = directory / FILE
    if not file.is_file():
        raise ModelLoadError(f"the model directory holds no {FILE}")
    _check(file)
    try:
        return skops.io.load(file, trusted=list(_TRUSTED))
    except Exception as error:
        raise ModelLoadError(f"{FILE} cannot be loaded: {type(error).__name__}: {error}") from error


def _check(file: Path) -> None:
    import skops.io

    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=file)) - set(_TRUSTED))
    except Exception as error:
        raise ModelLoadError(f"{FILE} is no skops file: {type(error).__name__}: {error}") from error
    if unknown:
        raise ModelLoadError(
            f"{FILE} names types that are not loaded: {', '.join(unknown[:10])}; use estimators of "
            "scikit-learn itself, or load it in code/inference.py"
        )
