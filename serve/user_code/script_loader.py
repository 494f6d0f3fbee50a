"""Finding and importing the user's script in the model directory.

    code/inference.py       the script, or the one that SAGEMAKER_PROGRAM names
    code/                   modules of the script; SAGEMAKER_SUBMIT_DIRECTORY names another one
    code/lib/               packages that it brings along (`pip install --target code/lib ...`)

The script is loaded by its path, and the directories come last in `sys.path`: a file of the user's
that is called `train.py` or `json.py` never takes the place of ours or of Python's
(docs/adr/0001-names.md).
"""

import importlib
import logging
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import cast

from container.errors import ModelLoadError

logger = logging.getLogger(__name__)

DEFAULT_PROGRAM = "inference.py"
_REQUIREMENTS = "requirements.txt"
_MAX_LISTED = 10
_PLATFORM_MODEL_DIR = PurePosixPath("/opt/ml/model")


def find(model_dir: Path, program: str | None, submit_directory: str | None = None) -> Path | None:
    """Return the script in `model_dir`; None where there is none and `program` is not set.

    Args:
        model_dir: The model directory.
        program: SAGEMAKER_PROGRAM, where it is set: relative to the directory of the code or a path
            below the model directory, with or without `.py`.
        submit_directory: SAGEMAKER_SUBMIT_DIRECTORY, where it is set: the directory of the code, in
            place of `code`. A directory that is not in the model directory is not used.
    Raises:
        ModelLoadError: the script that `program` names does not exist.
    """
    directory = _submitted(model_dir, submit_directory) or model_dir / "code"
    name = program or DEFAULT_PROGRAM
    name = name if name.endswith(".py") else f"{name}.py"
    file = _inside(model_dir, directory, name)
    if file is not None and file.is_file():
        return file
    if program is None:
        return None
    found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.py"))
    shown_directory = _shown(directory.relative_to(model_dir))
    wanted = name if PurePosixPath(name).is_absolute() else f"{shown_directory}{name}"
    raise ModelLoadError(
        f"SAGEMAKER_PROGRAM={program!r}: the model directory has no file {wanted}; name one that "
        "it has: " + (", ".join(found[:_MAX_LISTED]) or f"({shown_directory} holds no Python file)")
    )


def has_code(model_dir: Path, submit_directory: str | None = None) -> bool:
    """True if there is a directory in which `find` looks for a script."""
    return (_submitted(model_dir, submit_directory) or model_dir / "code").is_dir()


def code_directory(script: Path, model_dir: Path) -> Path:
    """Return the top directory of the code: `code`, or the one in `model_dir` with the script."""
    below = script.relative_to(model_dir).parts
    return model_dir / below[0] if len(below) > 1 else model_dir


def search_path(script: Path, code_dir: Path) -> list[str]:
    """Return the directories of the code's modules, in the order of search.

    They are that of the script, those above it up to `code_dir`, and the `lib` of each.
    """
    own = [directory for directory in script.parents if directory.is_relative_to(code_dir)]
    brought = [directory / "lib" for directory in own]
    return [str(directory) for directory in (*own, *brought) if directory.is_dir()]


def warn_of_unused(
    model_dir: Path, script: Path | None, submit_directory: str | None = None
) -> None:
    """Log once, at start, files and settings without the effect that their owner may expect."""
    if submit_directory is not None and _submitted(model_dir, submit_directory) is None:
        reason = (
            f"SAGEMAKER_SUBMIT_DIRECTORY={submit_directory!r} is not a directory below the model "
            "directory; code/ is used"
        )
        logger.warning("submit_directory_not_used", extra={"reason": reason})
    if script is None:
        if (model_dir / DEFAULT_PROGRAM).is_file():
            reason = f"{DEFAULT_PROGRAM} lies beside the model; move it to code/{DEFAULT_PROGRAM}"
            logger.warning("user_code_not_used", extra={"reason": reason})
        return
    code_dir = code_directory(script, model_dir)
    shown = _shown(code_dir.relative_to(model_dir))
    if (code_dir / _REQUIREMENTS).is_file() and not (code_dir / "lib").is_dir():
        reason = (
            f"{shown}{_REQUIREMENTS} is not installed: an endpoint may have no network. Bring the "
            f"packages along (pip install --target {shown}lib -r {shown}{_REQUIREMENTS}), or "
            "build an image with them from this one"
        )
        logger.warning("requirements_not_installed", extra={"reason": reason})
    names = {name for directory in {code_dir, script.parent} for name in _names(directory)}
    hidden = sorted(name for name in names - {script.stem} if _is_taken(name))
    if hidden:
        reason = "installed modules have these names; an import finds them, not the model's files"
        logger.warning("user_modules_hidden", extra={"reason": reason, "names": hidden})


def load(script: Path, code_dir: Path) -> ModuleType:
    """Run the script and return its module; raises whatever it raises.

    For a process with one model: modules that the script imports are in `sys.modules` under their
    own names.
    """
    sys.dont_write_bytecode = True  # the model directory is only read (C-059)
    name = module_name(script)
    sys.path += [path for path in search_path(script, code_dir) if path not in sys.path]
    importlib.invalidate_caches()
    loader = _ScriptLoader(name, str(script))
    spec = cast(ModuleSpec, spec_from_file_location(name, script, loader=loader))
    module = module_from_spec(spec)
    sys.modules[name] = module  # for itself, what it imports, dataclasses and pickle
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_name(script: Path) -> str:
    """Return the module name for the script: its own, unless another module has that name.

    With its own name `import inference` in the code finds the very module that is being run, and so
    do pickles of its classes and processes that it starts.
    """
    name = script.stem
    is_own = name.isidentifier() and (not _is_taken(name) or _is_a_script(name, script))
    return name if is_own else f"_user_{name}"


class _ScriptLoader(SourceFileLoader):
    """Marks the module of a user's script."""


def _is_a_script(name: str, script: Path) -> bool:
    """True if the module of that name is this script, or one that was loaded before it."""
    if name in sys.stdlib_module_names:
        return False
    try:
        spec = find_spec(name)
    except (ValueError, ImportError):
        return False
    return spec is not None and (
        spec.origin == str(script) or isinstance(spec.loader, _ScriptLoader)
    )


def _submitted(model_dir: Path, submit_directory: str | None) -> Path | None:
    directory = _inside(model_dir, model_dir, submit_directory) if submit_directory else None
    return directory if directory is not None and directory.is_dir() else None


def _inside(model_dir: Path, directory: Path, path: str) -> Path | None:
    """Return `path` in `directory`, or, if absolute, in the model directory; None elsewhere.

    This is a path traversal check: `..` is refused. `/opt/ml/model`, the platform's name of the
    model directory, stands for it wherever it is.
    """
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        return None
    if not pure.is_absolute():
        return directory / pure
    for root in (model_dir, _PLATFORM_MODEL_DIR):
        if pure.is_relative_to(root):
            return model_dir / pure.relative_to(root)
    return None


def _shown(directory: Path) -> str:
    """Return a directory as messages name it, relative to the model directory: `code/` or ``."""
    return "" if directory == Path() else f"{directory.as_posix()}/"


def _names(code_dir: Path) -> Iterator[str]:
    """Yield the names under which the files and packages in `code_dir` can be imported."""
    yield from (path.stem for path in code_dir.glob("*.py") if path.stem.isidentifier())
    yield from (path.parent.name for path in code_dir.glob("*/__init__.py"))


def _is_taken(name: str) -> bool:
    """True if `import name` finds an installed module; nothing is imported to find out."""
    try:
        return name in sys.stdlib_module_names or find_spec(name) is not None
    except (ValueError, ImportError):  # a module that is being set up by hand has no spec
        return name in sys.modules
