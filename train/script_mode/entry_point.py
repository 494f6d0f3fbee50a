"""Command line of a training script, by the kind of program that it is.

    train.py                     Python, as a file
    train.py beside a setup.py   Python, as a module (`-m train`); the package is not installed
    package/ with __main__.py    Python, as a module
    run.sh, any executable     by /bin/sh, which honours the `#!` line
    Rscript model.R              a command on PATH with arguments

Source: sagemaker-training-toolkit, modules `_entry_point_type` and `process`. The toolkit does not
have the last row, and installs a package with pip first.
"""

import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from train.script_mode.script_request import Option

logger = logging.getLogger(__name__)

_ELF = b"\x7fELF"
_MAX_LISTED = 10


def command(directory: Path, program: Option, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs the script in `directory`.

    Raises:
        JobConfigError: the sources hold no such script, or it is not executable.
    """
    name = _relative(directory, program.value)
    file = directory / name
    if name.endswith(".py") and file.is_file():
        if not (directory / "setup.py").is_file():
            return [sys.executable, name, *arguments]
        reason = "modules are found in the sources; compiled extensions and console scripts are not"
        logger.warning("package_not_installed", extra={"reason": reason})
        return [sys.executable, "-m", _module(name), *arguments]
    if (file / "__main__.py").is_file():
        return [sys.executable, "-m", _module(name), *arguments]
    if file.is_file():
        _make_executable(file, program)
        return ["/bin/sh", "-c", 'exec "$0" "$@"', f"./{name}", *arguments]
    words = _words(name)
    if len(words) > 1:
        if shutil.which(words[0]) is None:
            raise program.error(_missing(words[0]))
        return [*words, *arguments]
    raise program.error(f"the sources hold no such file; they hold: {_listing(directory)}")


def _relative(directory: Path, program: str) -> str:
    """Return the script's path in the sources, also for one given by its full path."""
    path = Path(program)
    if not path.is_absolute():
        return program.removeprefix("./")
    if path.is_relative_to("/opt/ml/code"):
        return path.relative_to("/opt/ml/code").as_posix()
    return path.relative_to(directory).as_posix() if path.is_relative_to(directory) else path.name


def _module(name: str) -> str:
    return name.removesuffix(".py").strip("/").replace("/", ".")


def _words(program: str) -> list[str]:
    try:
        return shlex.split(program)
    except ValueError:  # a quote without its end
        return []


def _make_executable(file: Path, program: Option) -> None:
    """Set the executable bits, as the toolkit does, and refuse what /bin/sh would misread."""
    with file.open("rb") as content:
        first_line = content.readline(256)
    if first_line.startswith(b"#!"):
        if first_line.endswith(b"\r\n"):
            raise program.error(
                "its lines end as on Windows, and no interpreter has a name that ends with a "
                "carriage return; save it with Unix line ends"
            )
        _check_interpreter(first_line, program)
    elif file.suffix not in {"", ".sh"} and not first_line.startswith(_ELF):
        raise program.error(
            "a file that is neither .py nor .sh begins with the line of its interpreter, such as "
            f"`#!/usr/bin/env Rscript`; or name both: 'Rscript {file.name}'"
        )
    if not os.access(file, os.X_OK):
        file.chmod(file.stat().st_mode | 0o111)


def _check_interpreter(first_line: bytes, program: Option) -> None:
    """Refuse a script whose interpreter is missing: the shell would not find the script itself."""
    words = first_line[2:].decode(errors="replace").split()
    if words[:1] == ["/usr/bin/env"]:
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if words and shutil.which(words[0]) is None:
        raise program.error(_missing(words[0]))


def _missing(interpreter: str) -> str:
    return (
        f"this image has no program {interpreter!r}; install it in an image made from this one, "
        "since the images hold Python and a shell"
    )


def _listing(directory: Path) -> str:
    files = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    more = [f"and {len(files) - _MAX_LISTED} more"] if len(files) > _MAX_LISTED else []
    return ", ".join([*files[:_MAX_LISTED], *more]) or "nothing"
