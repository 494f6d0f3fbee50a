"""Packages that a training script asks for, installed with pip as AWS's training toolkit does."""

import importlib.util
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from container.errors import JobConfigError
from train.script_mode import script_process
from train.script_mode.script_request import DEFAULT_REQUIREMENTS, ScriptRequest

logger = logging.getLogger(__name__)

_PIP = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_NO_INPUT": "1",
    "PIP_NO_CACHE_DIR": "1",
}
_REMEDY = (
    "the job needs a network (no EnableNetworkIsolation, and PIP_INDEX_URL in its Environment for "
    "an index of your own); or bring wheels along in the sources and name them in the file as "
    "./wheels/NAME.whl; or install the packages in an image made from this one"
)


def install(directory: Path, request: ScriptRequest, environment: Mapping[str, str]) -> bool:
    """Install the requirements file of the sources, if there is one.

    Returns:
        False if SIGTERM came while pip was running.
    Raises:
        JobConfigError: the file that the job names is missing, there is no pip, or pip failed.
    """
    name = request.requirements.value if request.requirements else DEFAULT_REQUIREMENTS
    if not (directory / name).is_file():
        if request.requirements:
            raise request.requirements.error("the sources hold no such file")
        return True
    if importlib.util.find_spec("pip") is None:
        raise JobConfigError(
            f"{name} cannot be installed: {sys.executable} has no pip; install the packages in an "
            "image made from this one, or leave the file out of the sources"
        )
    logger.info("requirements_installing", extra={"file": name})
    # -I: a module of the sources called `logging` must not replace the one that pip imports.
    pip = [sys.executable, "-I", "-m", "pip", "install", "--requirement", name]
    ended = script_process.run(pip, directory=directory, environment={**_PIP, **environment})
    if ended.was_stopped:
        return False
    if ended.exit_code:
        errors = [line for line in ended.stderr if line.startswith("ERROR")]
        cause = (errors or [*ended.stderr, f"exit code {ended.exit_code}"])[-1]
        raise JobConfigError(f"{name} cannot be installed: {cause}; {_REMEDY}")
    return True
