"""Algorithms by name: the built-in ones, and those that installed wheels register.

A wheel registers one under the entry-point group `byoa.algorithms`; the entry point names an object
that has the members of `container.algorithms.contract.Algorithm`.
"""

import logging
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from container.algorithms.contract import Adopting, Algorithm, Preloadable, UserModel
from container.algorithms.xgboost.formats import misplaced_model
from container.errors import HyperparameterError, ModelLoadError
from container.manifest import ModelManifest

logger = logging.getLogger(__name__)

GROUP = "byoa.algorithms"

# Name -> module and object, imported when asked for: no framework is loaded for another's sake.
_BUILT_IN = {
    "xgboost": EntryPoint("xgboost", "container.algorithms.xgboost.algorithm:ALGORITHM", GROUP),
}


def get(name: str) -> Algorithm:
    """The algorithm that goes by `name`; a built-in wins over a wheel's of the same name.

    Raises:
        HyperparameterError: no such algorithm; the message lists those that there are.
    """
    entry = _find(name)
    if entry is None:
        raise HyperparameterError(
            "algorithm", f"{name!r} is not installed; known are: {_known_names()}"
        )
    return _load(entry)


def for_artifact(directory: Path, manifest: ModelManifest | None) -> Algorithm:
    """The algorithm whose model lies in `directory`, by manifest or else by recognition.

    Raises:
        ModelLoadError: the manifest's algorithm is not installed, or no algorithm knows the files.
    """
    if manifest is not None:
        entry = _find(manifest.algorithm)
        if entry is None:
            raise ModelLoadError(
                f"the model was made by algorithm {manifest.algorithm!r}, which is not installed; "
                f"known are: {_known_names()}"
            )
        return _load(entry)
    algorithm = _recognising(directory)
    if algorithm is None:
        found = misplaced_model.describe(directory, lambda below: _recognising(below) is not None)
        raise ModelLoadError(
            "the model directory holds no model in its root that an installed algorithm knows "
            f"({_known_names()}); {found}"
        )
    return algorithm


def preload() -> None:
    """Import what loading a model takes, in a process that is about to be forked many times.

    Only of algorithms that say so by having a function `preload`: not all survive a fork.
    """
    for entry in _all():
        try:
            algorithm = _load(entry)
            if isinstance(algorithm, Preloadable):
                algorithm.preload()
        except Exception:  # a wheel that is of no use to any model so far
            logger.exception("preload_failed", extra={"algorithm": entry.name})


def adopt(model: object) -> UserModel | None:
    """The model object that a user's code made, if its framework is one of an algorithm here."""
    for entry in _all():
        try:
            algorithm = _load(entry)
        except Exception:  # a broken wheel, which this model may have nothing to do with
            logger.exception("algorithm_not_loaded", extra={"algorithm": entry.name})
            continue
        adopted = algorithm.adopt(model) if isinstance(algorithm, Adopting) else None
        if adopted is not None:
            return adopted
    return None


def _recognising(directory: Path) -> Algorithm | None:
    algorithms = (_load(entry) for entry in _all())
    return next((each for each in algorithms if each.recognises(directory)), None)


def _find(name: str) -> EntryPoint | None:
    return next((entry for entry in _all() if entry.name == name), None)


def _all() -> Iterator[EntryPoint]:
    """The built-in ones first: looking through the installed wheels takes milliseconds."""
    yield from _BUILT_IN.values()
    yield from (entry for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN)


def _known_names() -> str:
    return ", ".join(sorted(entry.name for entry in _all()))


def _load(entry: EntryPoint) -> Algorithm:
    module, _, attribute = entry.value.partition(":")
    return cast(Algorithm, getattr(import_module(module), attribute))
