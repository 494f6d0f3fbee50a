"""Locked environments of the servers, made once each, and programs of the system."""

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import container
from benchmarks.harness.servers import HERE, ROOT, Server

HARNESS_REQUIREMENTS = HERE / "requirements.txt"
_UV = ROOT / ".venv" / "bin" / "uv"
_STAMP = "made-from"
_TIMEOUT_SECONDS = 1200.0
_MESSAGE_CHARACTERS = 1000


class SetupError(Exception):
    """An environment could not be made, or a program is missing."""


def prepare(server: Server, environments_dir: Path) -> Path:
    """Return the environment that a server runs in, made if need be, with its programs.

    Raises:
        SetupError: this machine cannot run the server.
    """
    install_programs(server.programs)
    directory = server.environment_dir(environments_dir)
    if server.requirements_file is not None:
        make(directory, server.requirements_file)
    return directory


def make(directory: Path, requirements_file: Path) -> None:
    """Make an environment from a lock; do nothing when it was made from this very one."""
    digest = hashlib.sha256(requirements_file.read_bytes()).hexdigest()
    made_from = f"Python {platform.python_version()}, {digest}"
    stamp = directory / _STAMP
    if stamp.exists() and stamp.read_text() == made_from:
        return
    print(f"bench: making {directory.name}'s environment ...", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    _run(_UV, "venv", "--quiet", "--python", sys.executable, directory)
    _run(
        *(_UV, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"),
        *("--python", directory / "bin" / "python", requirements_file),
    )
    stamp.write_text(made_from)


def install_programs(programs: Iterable[str]) -> None:
    """Install programs that are not on PATH, if this machine allows it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        _run(HERE / "install_programs.sh", *missing)


def locked_version(server: Server) -> str:
    """Return the version of a server's package, from its lock or from the product's."""
    if server.package == "container":
        return f"{container.__version__}, {_revision()}"
    file = server.requirements_file or ROOT / "requirements" / "dev.txt"
    found = re.search(rf"^{re.escape(server.package)}==([^ \\]+)", file.read_text(), re.MULTILINE)
    return found[1] if found else "?"


def _revision() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown revision"


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()[-_MESSAGE_CHARACTERS:]
        raise SetupError(f"{' '.join(words)}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{' '.join(words)}: {error}") from error
