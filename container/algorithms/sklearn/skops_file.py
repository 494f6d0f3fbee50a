"""Estimators in skops files, which hold data and the names of types, and no code.

A file may name no type but scikit-learn's and NumPy's own that are listed here. `load` is called
only after the same file has been loaded in a process that may crash.

Source: skops 0.16, "Secure persistence with skops".
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from container.errors import ModelLoadError

FILE = "model.skops"
_SCHEMA = "schema.json"  # in the archive
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

    file = directory / FILE
    file.write_bytes(_canonical(skops.io.dumps(estimator)))
    _check(file)


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


def _canonical(archive: bytes) -> bytes:
    """Return the same archive whose bytes depend on its content alone.

    skops numbers objects and files by addresses in memory, and a ZIP file holds the time.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, ids, names)
    files = sorted((names.get(name, name), body) for name, body in members.items())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, body in [(_SCHEMA, json.dumps(schema, indent=1).encode()), *files]:
            target.writestr(zipfile.ZipInfo(name), body)
    return stream.getvalue()


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> None:
    """Number objects and files of a schema, in place, in the order in which they come first."""
    if isinstance(node, list):
        for each in node:
            _renumber(each, ids, names)
    elif isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            suffix = Path(node["file"]).suffix
            node["file"] = names.setdefault(node["file"], f"{len(names) + 1}{suffix}")
        for each in node.values():
            _renumber(each, ids, names)


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
