"""The `/opt/ml` tree: paths, the platform's configuration files, and the files written there.

    input/config/hyperparameters.json   flat object of strings
    input/config/inputdataconfig.json   channel name -> settings
    input/config/resourceconfig.json    this host and the others
    input/config/checkpointconfig.json  where checkpoints go, in jobs that ask for them
    input/data/<channel>/               the channel's files, never written to
    checkpoints/                        survives an interruption, unless it is elsewhere
    code/                               sources of the user's own training script
    model/                              the model artifact, put in place whole (`replace_files`)
    output/data/                        all other results
    output/failure                      failure message; the platform shows 1,024 characters

Source: AWS SageMaker developer guide, "How Amazon SageMaker AI Provides Training Information" and
"How Amazon SageMaker AI Processes Training Output".
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from container.errors import ChannelError, JobConfigError, PlatformError

logger = logging.getLogger(__name__)

PLATFORM_DIR = Path("/opt/ml")
MAX_FAILURE_CHARACTERS = 1024
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RESERVED_BYTES = 4 * MAX_FAILURE_CHARACTERS  # of UTF-8
# The platform's own limits (100 hyperparameters of 2,500 characters) stay far below.
_MAX_CONFIG_BYTES = 2**20
_STAGING_PREFIX = ".staging-"


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """Entry of a channel in `inputdataconfig.json`; absent keys have the platform's defaults."""

    content_type: str | None = None
    input_mode: str = "File"
    record_wrapper: str = "None"
    distribution: str = "FullyReplicated"


@dataclass(frozen=True, slots=True)
class ResourceConfig:
    """This host among the hosts of the job. `hosts` is sorted as text, as the platform sorts it."""

    current_host: str = "localhost"
    hosts: tuple[str, ...] = ("localhost",)

    @property
    def is_leader(self) -> bool:
        """True if this host writes the files that only one host may write (C-024)."""
        return self.current_host == min(self.hosts)


@dataclass(frozen=True, slots=True)
class OptMl:
    """The tree below `base_dir`, which is `/opt/ml` except in process mode."""

    base_dir: Path

    @property
    def model_dir(self) -> Path:
        return self.base_dir / "model"

    @property
    def code_dir(self) -> Path:
        return self.base_dir / "code"

    @property
    def output_data_dir(self) -> Path:
        return self.base_dir / "output" / "data"

    @property
    def failure_file(self) -> Path:
        return self.base_dir / "output" / "failure"

    @property
    def data_dir(self) -> Path:
        return self.base_dir / "input" / "data"

    def hyperparameters(self) -> dict[str, object]:
        """Read the job's hyperparameters as sent; empty if the file is absent (C-015)."""
        return self.config("hyperparameters.json") or {}

    def channels(self) -> dict[str, ChannelConfig]:
        """Read the declared channels; without a declaration, the directories in `input/data`."""
        declared = self.config("inputdataconfig.json")
        if declared is None:
            if not self.data_dir.is_dir():
                return {}
            return {path.name: ChannelConfig() for path in sorted(self.data_dir.iterdir())}
        return {name: self._channel_config(name, entry) for name, entry in declared.items()}

    def resource_config(self) -> ResourceConfig:
        """Read the hosts of the job; one host if the file is absent (C-022)."""
        config = self.config("resourceconfig.json")
        if config is None:
            return ResourceConfig()
        current, hosts = config.get("current_host"), config.get("hosts")
        if not isinstance(current, str) or not isinstance(hosts, list) or current not in hosts:
            raise JobConfigError(
                "resourceconfig.json: 'current_host' must be one of the list 'hosts'; "
                f"given: current_host={current!r}, hosts={hosts!r}"
            )
        return ResourceConfig(current, tuple(sorted(map(str, hosts))))

    def checkpoint_dir(self) -> Path | None:
        """Directory of the checkpoints (C-031); None for a job without checkpoints.

        A job asks for them by checkpointconfig.json, or by a directory in the usual place.
        """
        usual = self.base_dir / "checkpoints"
        config = self.config("checkpointconfig.json")
        if config is None:
            return usual if usual.is_dir() else None
        given = config.get("LocalPath") or str(PLATFORM_DIR / "checkpoints")
        if not isinstance(given, str) or not Path(given).is_absolute():
            raise JobConfigError(
                f"checkpointconfig.json: LocalPath must be an absolute path; given: {given!r}"
            )
        path = Path(given)  # in process mode the platform's tree is elsewhere
        return (
            self.base_dir / path.relative_to(PLATFORM_DIR)
            if path.is_relative_to(PLATFORM_DIR)
            else path
        )

    def write_failure(self, message: str, lines: Sequence[str] = ()) -> None:
        """Write the failure message for the platform, and further lines below it (C-027, C-028).

        A message that the algorithm wrote itself is kept, as it is more specific.
        """
        if self.failure_file.exists() and self.failure_file.stat().st_size > 0:
            return
        whole = "\n".join(map(_printable, [message, *lines]))
        text = f"{whole[: MAX_FAILURE_CHARACTERS - 1]}\n".encode()
        try:
            with self._reserve.open("r+b") as file:
                file.write(text)
                file.truncate()
        except OSError:
            # No usable reserve: delete our staging directories to make room.
            self.release_reserve()
            for staging in self.model_dir.glob(f"{_STAGING_PREFIX}*"):
                shutil.rmtree(staging, ignore_errors=True)
            self.failure_file.parent.mkdir(parents=True, exist_ok=True)
            self.failure_file.write_bytes(text)
        else:
            self._reserve.replace(self.failure_file)

    def clear_failure(self) -> None:
        """Remove the failure of an earlier run in the same tree (C-026)."""
        self.failure_file.unlink(missing_ok=True)

    def reserve_failure(self) -> None:
        """Reserve disk space for a failure file, so that it can be written to a full disk.

        Raises:
            OSError: the disk is full already, or not writable.
        """
        if self._reserve.exists() and self._reserve.stat().st_size == _RESERVED_BYTES:
            return
        self._reserve.parent.mkdir(parents=True, exist_ok=True)
        # Not blanks, which a file system may compress to nothing.
        self._reserve.write_bytes(os.urandom(_RESERVED_BYTES))
        flush_to_disk(self._reserve)

    def release_reserve(self) -> None:
        """Release the reserved space."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path:
        return self.failure_file.with_name(".failure-reserve")

    def config(self, name: str) -> dict[str, object] | None:
        """Read a file of `input/config`; None if it is absent.

        Raises:
            JobConfigError: it is no JSON object.
        """
        file = self.base_dir / "input" / "config" / name
        try:
            if file.stat().st_size > _MAX_CONFIG_BYTES:
                raise JobConfigError(
                    f"{name} is {file.stat().st_size} bytes; at most {_MAX_CONFIG_BYTES} are read"
                )
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PlatformError(f"{name} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise JobConfigError(f"{name} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise JobConfigError(
                f"{name} must hold a JSON object; it holds a {type(content).__name__}"
            )
        return content

    @staticmethod
    def _channel_config(name: str, entry: object) -> ChannelConfig:
        if not isinstance(entry, dict):
            raise JobConfigError(
                f"inputdataconfig.json: channel {name!r} must be a JSON object; given: {entry!r}"
            )

        def text(key: str, default: str) -> str:
            value = entry.get(key) or default
            if not isinstance(value, str):
                raise ChannelError(
                    f"inputdataconfig.json: {key} of channel {name!r} must be text; "
                    f"given: {value!r}"
                )
            return value

        return ChannelConfig(
            content_type=text("ContentType", "") or None,
            input_mode=text("TrainingInputMode", "File"),
            record_wrapper=text("RecordWrapperType", "None"),
            distribution=text("S3DistributionType", "FullyReplicated"),
        )


@contextmanager
def replace_files(directory: Path, *, last: str) -> Iterator[Path]:
    """Yield a staging directory whose files move into `directory` when the block succeeds.

    Each replacement is atomic: a file is written on the same file system, flushed to disk and
    renamed. A kill at any moment leaves either the old file or the new one, never half (C-030).

    Args:
        directory: Created when absent.
        last: The file that vouches for the others (the manifest). An old one is removed before the
            first rename and the new one is renamed last, so that it never vouches for other files.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(stale, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=directory))
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise PlatformError(
            f"the model directory cannot be written: {error.strerror}; mount it writable"
        ) from error
    try:
        yield staging
        _move_into(directory, staging, last)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_into(directory: Path, staging: Path, last: str) -> None:
    files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
    for file in files:
        if (directory / file).is_dir():
            raise PlatformError(f"the model directory holds a directory where {file} belongs")
    (directory / last).unlink(missing_ok=True)
    for file in sorted(files, key=lambda path: path == Path(last)):
        (staging / file).chmod(0o644)  # modes as of mkstemp would lock out another uid (C-005)
        flush_to_disk(staging / file)
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (staging / file).replace(directory / file)
        flush_to_disk((directory / file).parent)


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a directory's names, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _printable(text: str) -> str:
    """Escape text to one printable line of UTF-8: names of files and keys may hold anything."""
    plain = text.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in plain)
