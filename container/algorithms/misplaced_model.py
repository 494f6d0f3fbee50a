"""Diagnosis of a model directory in whose root no algorithm finds a model."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from container.manifest import MANIFEST_FILE

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
_CODE = "code"
_MAX_DIRECTORIES = 200
_MAX_DEPTH = 4
_MAX_LISTED = 10


def describe(directory: Path, recognises: Callable[[Path], bool]) -> str:
    """Describe the files found instead of a model, and the remedy.

    Args:
        directory: The model directory; paths in the answer are relative to it.
        recognises: Returns True if an algorithm finds a model in a directory.
    """
    found = _visible(directory)
    below = next((each for each in _directories(directory) if _has_model(each, recognises)), None)
    if below is not None:
        path = below.relative_to(directory).as_posix()
        files = ", ".join(f"{path}/{name}" for name in _visible(below)[:_MAX_LISTED])
        return (
            f"there is one in {path}/ ({files}), and it belongs in the root of the artifact: "
            f"tar -czf model.tar.gz -C {path} ."
        )
    archives = [name for name in found if name.endswith(_ARCHIVES)]
    if archives:
        return (
            f"it holds the archive {archives[0]}, which is not unpacked: make an artifact of what "
            "is in it, with the model in the root"
        )
    if [name.rstrip("/") for name in found] == [_CODE]:
        return (
            f"it holds nothing but {_CODE}/: put the model beside it, or have "
            f"{_CODE}/inference.py load one in model_fn(model_dir)"
        )
    hidden = [] if found else sorted(path.name for path in directory.glob("*"))
    if hidden:
        return f"it holds nothing but hidden files: {', '.join(hidden[:_MAX_LISTED])}"
    return f"files found: {', '.join(found[:_MAX_LISTED]) or 'none'}"


def _visible(directory: Path) -> list[str]:
    """Names in a directory, those of directories with a slash, without hidden ones."""
    paths = sorted(directory.glob("*"))
    return [f"{path.name}{'/' * path.is_dir()}" for path in paths if not _is_hidden(path.name)]


def _is_hidden(name: str) -> bool:
    """Return whether macOS, a notebook or an editor left it: `._model`, `.ipynb_checkpoints`."""
    return name.startswith(".") or name == "__MACOSX"


def _directories(top: Path) -> Iterator[Path]:
    """Directories below `top`, those higher up first; links are not followed."""
    pending = [(top, 0)]
    for directory, depth in pending:
        if depth:
            yield directory
        if depth < _MAX_DEPTH:
            with os.scandir(directory) as entries:
                names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
            pending += [(directory / name, depth + 1) for name in names if not _is_hidden(name)]
            del pending[_MAX_DIRECTORIES:]


def _has_model(directory: Path, recognises: Callable[[Path], bool]) -> bool:
    return (directory / MANIFEST_FILE).is_file() or recognises(directory)
