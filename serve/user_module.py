"""The user's own script: where it lies in the model directory, and how it is imported.

    code/inference.py       the script, or the one that SAGEMAKER_PROGRAM names
    code/                   what the script imports
    code/lib/               packages that it brings along (`pip install --target code/lib ...`)

The script is loaded by its path under a name that nothing else has, and the two directories come
last in `sys.path`: a file of the user's that is called `train.py` or `json.py` never takes the
place of ours or of Python's (docs/adr/0001-names.md).
"""

import importlib
import logging
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import cast

from container.errors import ModelLoadError

logger = logging.getLogger(__name__)

DEFAULT_PROGRAM = "inference.py"
_REQUIREMENTS = "requirements.txt"
_MAX_LISTED = 10


def find(model_dir: Path, program: str | None) -> Path | None:
    """The script in `model_dir`, or None where there is none and nobody asked for one.

    Args:
        model_dir: The model directory.
        program: SAGEMAKER_PROGRAM, with or without `.py`, where it is set.
    Raises:
        ModelLoadError: the script that `program` names is not there.
    """
    code_dir = model_dir / "code"
    name = program or DEFAULT_PROGRAM
    name = name if name.endswith(".py") else f"{name}.py"
    file = code_dir / name
    is_below = not Path(name).is_absolute() and ".." not in Path(name).parts
    if is_below and file.is_file():
        return file
    if program is None:
        return None
    found = sorted(path.relative_to(code_dir).as_posix() for path in code_dir.rglob("*.py"))
    raise ModelLoadError(
        f"SAGEMAKER_PROGRAM={program!r}: the model directory has no file code/{name}; name one "
        f"that is there: {', '.join(found[:_MAX_LISTED]) or '(code/ holds no Python file)'}"
    )


def warn_of_what_is_not_used(model_dir: Path, script: Path | None) -> None:
    """Say once, at start, which files do not do what their owner may expect."""
    code_dir = model_dir / "code"
    if script is None:
        if (model_dir / DEFAULT_PROGRAM).is_file():
            reason = f"{DEFAULT_PROGRAM} lies beside the model; move it to code/{DEFAULT_PROGRAM}"
            logger.warning("user_code_not_used", extra={"reason": reason})
        return
    if (code_dir / _REQUIREMENTS).is_file() and not (code_dir / "lib").is_dir():
        reason = (
            f"code/{_REQUIREMENTS} is not installed: an endpoint may have no network. Bring the "
            f"packages along (pip install --target code/lib -r code/{_REQUIREMENTS}), or build "
            "an image with them from this one"
        )
        logger.warning("requirements_not_installed", extra={"reason": reason})
    hidden = sorted(name for name in _names(code_dir) if _is_taken(name) and name != script.stem)
    if hidden:
        reason = "modules of these names are there already; importing them does not give yours"
        logger.warning("user_modules_hidden", extra={"reason": reason, "names": hidden})


def load(script: Path, code_dir: Path) -> ModuleType:
    """Run the script and return its module; raises whatever it raises.

    One model in each process: what the script imports goes into this interpreter's `sys.modules`
    under the name that the user gave it. For several models in one process, whose modules may have
    equal names, this is the function to change.
    """
    sys.dont_write_bytecode = True  # the model directory is only read (C-059)
    for directory in (code_dir, code_dir / "lib"):
        if directory.is_dir() and str(directory) not in sys.path:
            sys.path.append(str(directory))
    importlib.invalidate_caches()
    loader = SourceFileLoader(f"_user_{script.stem}", str(script))
    spec = cast(ModuleSpec, spec_from_file_location(loader.name, script, loader=loader))
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses and pickle look for it there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[loader.name]
        raise
    return module


def _names(code_dir: Path) -> Iterator[str]:
    """The names under which files beside the script can be imported."""
    yield from (path.stem for path in code_dir.glob("*.py") if path.stem.isidentifier())
    yield from (path.parent.name for path in code_dir.glob("*/__init__.py"))


def _is_taken(name: str) -> bool:
    """Whether `import name` finds something else; nothing is imported to know it."""
    try:
        return name in sys.stdlib_module_names or find_spec(name) is not None
    except (ValueError, ImportError):  # a module that is being set up by hand has no spec
        return name in sys.modules
