"""Registry of algorithms by name: the built-in ones, and those of installed wheels.

A wheel registers one under the entry-point group `byoa.algorithms`; the entry point names an object
that has the members of `container.algorithms.contract.Algorithm`.
"""

import logging
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from container.algorithms import misplaced_model
from container.algorithms.contract import Adopting, Algorithm, Preloadable, UserModel
from container.errors import HyperparameterError, ModelLoadError
from container.manifest import ModelManifest

logger = logging.getLogger(__name__)

GROUP = "byoa.algorithms"

# Name -> module and object, imported when asked for: no framework is loaded for another's sake.
_BUILT_IN = {
    "xgboost": EntryPoint("xgboost", "container.algorithms.xgboost.algorithm:ALGORITHM", GROUP),
}


def get(name: str) -> Algorithm:
    """Return the algorithm called `name`; a built-in one takes precedence over a wheel's.

    Raises:
        HyperparameterError: no such algorithm; the message lists the installed ones.
    """
    entry = _find(name)
    if entry is None:
        raise HyperparameterError(
            "algorithm", f"{name!r} is not installed; known are: {_known_names()}"
        )
    return _load(entry)


def for_artifact(directory: Path, manifest: ModelManifest | None) -> Algorithm:
    """Return the algorithm of the model in `directory`, by manifest or else by its files.

    Raises:
        ModelLoadError: the manifest's algorithm is not installed, or no algorithm recognises the
            files.
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
    """Import the libraries of `Preloadable` algorithms in a process that will fork many times.

    Other algorithms may not survive a fork.
    """
    for entry in _all():
        try:
            algorithm = _load(entry)
            if isinstance(algorithm, Preloadable):
                algorithm.preload()
        except Exception:  # a broken wheel; no model needs it yet
            logger.exception("preload_failed", extra={"algorithm": entry.name})


def adopt(model: object) -> UserModel | None:
    """Wrap a model object that user code returned, if an algorithm here knows its framework."""
    for entry in _all():
        try:
            algorithm = _load(entry)
        except Exception:  # a broken wheel, perhaps unrelated to this model
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
    """Yield the built-in ones first: searching the installed wheels takes milliseconds."""
    yield from _BUILT_IN.values()
    yield from (entry for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN)


def _known_names() -> str:
    return ", ".join(sorted(entry.name for entry in _all()))


def _load(entry: EntryPoint) -> Algorithm:
    module, _, attribute = entry.value.partition(":")
    return cast(Algorithm, getattr(import_module(module), attribute))
