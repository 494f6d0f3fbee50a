"""Registry of algorithms by name: built-in ones, files in a directory, and installed wheels.

An algorithm of one file lies in the directory of `use_directory`. A wheel registers one under the
entry-point group `byoa.algorithms`; the entry point names an object that is a
`container.algorithms.contract.Algorithm`. One that is `Adopting`, the same object or another, is
registered under `byoa.frameworks`, once for each package whose model objects it takes:

    [project.entry-points."byoa.algorithms"]
    acme = "acme_byoa:ALGORITHM"
    [project.entry-points."byoa.frameworks"]
    lightgbm = "acme_byoa:ALGORITHM"
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from container.algorithms import contract, misplaced_model
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Adopting, Preloadable, UserModel
from container.errors import AlgorithmError, HyperparameterError, ModelLoadError
from container.manifest import ModelManifest

logger = logging.getLogger(__name__)

GROUP = "byoa.algorithms"
FRAMEWORKS = "byoa.frameworks"

T = TypeVar("T")

# Name -> module and object, imported when asked for: no framework is loaded for another's sake.
_BUILT_IN = {
    "xgboost": EntryPoint("xgboost", "container.algorithms.xgboost.algorithm:ALGORITHM", GROUP),
    **{
        f"sklearn-{each}": EntryPoint(
            f"sklearn-{each}",
            f"container.algorithms.sklearn.sklearn_algorithms:{each.upper()}",
            GROUP,
        )
        for each in ("linear", "forest", "boosting", "neighbors", "isolation", "preprocessor")
    },
    "lightgbm": EntryPoint(
        "lightgbm", "container.algorithms.lightgbm.lightgbm_algorithm:ALGORITHM", GROUP
    ),
}
# Name -> algorithm file; see `use_directory`.
_FILES: dict[str, EntryPoint] = {}
# Top-level package of a model's class -> the algorithm that adopts it.
_BUILT_IN_FRAMEWORKS = {"xgboost": _BUILT_IN["xgboost"], "lightgbm": _BUILT_IN["lightgbm"]}


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


def use_directory(directory: Path) -> None:
    """Register every algorithm file of a directory, if there is one; nothing is imported yet.

    `nearest_centroid.py` has an object `ALGORITHM` whose name is `nearest-centroid`. Files whose
    name begins with an underscore are modules for the others.
    """
    files = [path for path in sorted(directory.glob("*.py")) if not path.name.startswith("_")]
    if files and str(directory) not in sys.path:
        sys.path.append(str(directory))
    for path in files:
        name = path.stem.replace("_", "-")
        _FILES[name] = EntryPoint(name, f"{path.stem}:ALGORITHM", GROUP)


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
    """Wrap a model object that user code returned, if an algorithm here knows its framework.

    Only algorithms that declare the package of the model's class, or of a class that it inherits
    from, are imported.
    """
    for package in dict.fromkeys(_package(each) for each in type(model).__mro__):
        for entry in _entries(FRAMEWORKS, _BUILT_IN_FRAMEWORKS):
            if entry.name != package or (adopting := _tried(_adopting, entry)) is None:
                continue
            adopted = adopting.adopt(model)
            if adopted is not None:
                return adopted
    return None


def _package(model_class: type) -> str:
    return str(model_class.__module__).partition(".")[0]


def _recognising(directory: Path) -> Algorithm | None:
    algorithms = (_tried(_load, entry) for entry in _all())
    return next((each for each in algorithms if each and each.recognises(directory)), None)


def _tried(load: Callable[[EntryPoint], T], entry: EntryPoint) -> T | None:
    """Load what may have nothing to do with the model at hand; None if it fails."""
    try:
        return load(entry)
    except Exception:  # a broken wheel
        logger.exception("algorithm_not_loaded", extra={"algorithm": entry.name})
        return None


def _find(name: str) -> EntryPoint | None:
    return next((entry for entry in _all() if entry.name == name), None)


def _all() -> Iterator[EntryPoint]:
    return _entries(GROUP, _BUILT_IN)


def _entries(group: str, built_in: Mapping[str, EntryPoint]) -> Iterator[EntryPoint]:
    """Yield the built-in ones first: searching the installed wheels takes milliseconds."""
    yield from built_in.values()
    if group == GROUP:
        yield from (entry for entry in _FILES.values() if entry.name not in built_in)
        built_in = {**_FILES, **built_in}
    yield from (entry for entry in entry_points(group=group) if entry.name not in built_in)


def _known_names() -> str:
    return ", ".join(sorted(entry.name for entry in _all()))


def _load(entry: EntryPoint) -> Algorithm:
    return contract.check(_object(entry), entry.name)


def _adopting(entry: EntryPoint) -> Adopting:
    found = _object(entry)
    if not isinstance(found, Adopting):
        raise AlgorithmError(f"{entry.value}, registered under {FRAMEWORKS}, has no method adopt")
    return found


def _object(entry: EntryPoint) -> object:
    module, _, attribute = entry.value.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        raise AlgorithmError(
            f"algorithm {entry.name!r} cannot be imported from {entry.value}: "
            f"{type(error).__name__}: {error}"
        ) from error
