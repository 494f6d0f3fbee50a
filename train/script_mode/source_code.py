"""The sources of a training script, put into `/opt/ml/code` as AWS's training toolkit does.

    /opt/ml/code holds files     used as they are: local mode mounts them, an image may have them
    sagemaker_submit_directory   a directory, an archive (tar, tar.gz) or a file, copied
    a script with its full path  its directory, copied
    channel `code`               its sourcedir.tar.gz, or else all of it, copied

Copied, since a channel may be read-only and a script may write beside itself. A marker file tells
our copy from somebody's mount: the next job in the same tree replaces it.
"""

import logging
import shutil
import tarfile
import zlib
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

from container.errors import PlatformError
from container.opt_ml import PLATFORM_DIR, OptMl
from train.script_mode.script_request import Option, ScriptRequest

logger = logging.getLogger(__name__)

_MARKER = ".byoa-copied"
_ARCHIVE = "sourcedir.tar.gz"
# Against mistakes only, since the sources are run. Python 3.11.0 to 3.11.3 have no filter.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
_HOW = (
    "put the sources into a channel called 'code' and set sagemaker_submit_directory to "
    "/opt/ml/input/data/code"
)


def prepare(opt_ml: OptMl, request: ScriptRequest) -> Path:
    """Return the directory with the sources of the script, which is its working directory.

    Raises:
        JobConfigError: there are no sources, or they cannot be read; the message names the key.
        PlatformError: the directory cannot be written.
    """
    directory = opt_ml.code_dir
    if _is_foreign(directory):
        logger.info("source_code_found", extra={"directory": str(directory)})
        return directory
    source, option = _source(opt_ml, request)
    if source.resolve() == directory.resolve() and any(directory.iterdir()):
        return directory  # what an earlier job copied
    if directory.resolve().is_relative_to(source.resolve()):
        raise option.error(
            f"it is {directory} itself, which is empty, or a directory above; {_HOW}"
        )
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _MARKER).touch()  # first, so that a job killed while it copies leaves it
        _copy(source, directory, option)
    except OSError as error:
        # Of a directory: a list of sources, copies and reasons.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise PlatformError(
            f"the sources cannot be copied to {directory}: {reason}; the directory must be "
            "writable and have room for them"
        ) from error
    logger.info("source_code_copied", extra={"source": str(source), "directory": str(directory)})
    return directory


def inside(opt_ml: OptMl, path: str) -> Path:
    """Return the path of this machine for a path of the platform: process mode has another base."""
    given = Path(path.removeprefix("file://"))
    if given.is_relative_to(PLATFORM_DIR):
        return opt_ml.base_dir / given.relative_to(PLATFORM_DIR)
    return opt_ml.base_dir / given  # an absolute path stays what it is


def _is_foreign(directory: Path) -> bool:
    """Return True if the directory holds files that no earlier job of ours copied there."""
    return directory.is_dir() and any(directory.iterdir()) and not (directory / _MARKER).exists()


def _source(opt_ml: OptMl, request: ScriptRequest) -> tuple[Path, Option]:
    """Return a path that exists, and the option that an error about it names."""
    option = request.submit_directory
    if option is None:
        program = Path(request.program.value)
        if program.is_absolute() and inside(opt_ml, request.program.value).is_file():
            return inside(opt_ml, request.program.value).parent, request.program
        channel = opt_ml.data_dir / "code"
        if not channel.is_dir():
            raise request.program.error(f"the job has no sources; {_HOW}")
        archive = channel / _ARCHIVE
        return (archive if archive.is_file() else channel), request.program
    if "://" in option.value and not option.value.startswith("file://"):
        raise option.error(
            "sources are not downloaded, since the container has neither a client nor credentials "
            "for it. With SageMaker's SDK set enable_network_isolation=True on the estimator, "
            f"which sends them as a channel; without it {_HOW}"
        )
    path = inside(opt_ml, option.value)
    if not path.exists():
        raise option.error(f"there is no such directory or archive; {_HOW}")
    return path, option


def _copy(source: Path, directory: Path, option: Option) -> None:
    if source.is_dir():
        shutil.copytree(source, directory, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    elif tarfile.is_tarfile(source):
        try:
            with tarfile.open(source) as archive:
                archive.extractall(directory, **_FILTER)  # noqa: S202  see above
        except (tarfile.TarError, EOFError, ValueError, zlib.error, BadGzipFile) as error:
            raise option.error(f"the archive cannot be unpacked: {error}; pack it again") from error
    elif source.name.endswith((".gz", ".tgz", ".tar", ".zip")):
        raise option.error("it is not a tar archive; pack the sources with: tar -czf … -C DIR .")
    else:
        shutil.copy2(source, directory)
