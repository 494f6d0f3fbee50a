"""What a job may use while it runs: memory, and a place for files that it needs only then.

The place is the one with the most free space among the temporary directory (`TMPDIR`, else /tmp),
`/opt/ml` and `/opt/ml/output`: on the platform they are volumes of their own, with `docker run
--read-only --tmpfs /tmp` only some of them can be written. A file system that lives in memory, such
as tmpfs, is no such place, because what lies there counts against the job's memory. Where nothing
is left, everything stays in memory, and the log says so.
"""

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from container import cgroup

logger = logging.getLogger(__name__)

# Of the job's memory, for records that were read: as much again goes to the framework's own form
# of them, and half is left for the rest.
_SHARE_FOR_RECORDS = 0.25
_PREFIX = "byoa-scratch-"
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# Between making a directory and locking it.
_NEW_SECONDS = 60.0


class Scratch:
    """The memory and the temporary files of one job; thread-safe."""

    def __init__(self, base_dir: Path, *, memory_bytes: int | None = None) -> None:
        """Find the place.

        Args:
            base_dir: `/opt/ml`.
            memory_bytes: What the job may use in all; what the control group grants if absent.
        """
        self.memory_bytes = memory_bytes or cgroup.memory_bytes()
        self._left_for_records = int(self.memory_bytes * _SHARE_FOR_RECORDS)
        self._place = _roomiest([Path(tempfile.gettempdir()), base_dir, base_dir / "output"])
        self._directory: Path | None = None
        self._lock = threading.Lock()
        if self._place is None:
            logger.warning("no_disk_for_temporary_files", extra={"instead": "memory"})

    @property
    def has_disk(self) -> bool:
        """Whether there is a place for files outside memory."""
        return self._place is not None

    def keep_in_memory(self, n_bytes: int) -> bool:
        """Whether so many bytes of records may stay in memory; those that may are counted."""
        with self._lock:
            if n_bytes > self._left_for_records and self.has_disk:
                return False
            self._left_for_records -= n_bytes
            return True

    def release(self, n_bytes: int) -> None:
        """Say that so many bytes of records, kept in memory before, are there no more."""
        with self._lock:
            self._left_for_records += n_bytes

    def open_file(self) -> IO[bytes]:
        """An unbuffered file without a name: it is gone with the process, however that ends."""
        return tempfile.TemporaryFile(dir=self._place, buffering=0)

    def directory(self) -> Path:
        """The directory for files that need names, made at the first call.

        It is removed with this object, or, after a SIGKILL, when the next job begins.
        """
        if self._directory is None:
            place = self._place or Path(tempfile.gettempdir())
            _sweep(place)
            self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            lock = _lock(self._directory)
            weakref.finalize(self, _remove, self._directory, lock)
            logger.info("scratch_directory_made", extra={"directory": str(self._directory)})
        return self._directory


def _roomiest(candidates: list[Path]) -> Path | None:
    rooms = {path: _free_bytes(path) for path in candidates if _is_on_disk(path)}
    # The first one of equals: the same disk often carries them all.
    return max(rooms, key=lambda path: rooms[path], default=None)


def _is_on_disk(directory: Path) -> bool:
    if not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        return False
    return _file_system(directory) not in _MEMORY_FILE_SYSTEMS


def _free_bytes(directory: Path) -> int:
    facts = os.statvfs(directory)
    return facts.f_bavail * facts.f_frsize


def _file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds `path`, e.g. `ext4`; empty when it is not known.

    Source: proc(5), /proc/pid/mountinfo: the third field is the device, the type follows ` - `.
    """
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""


def _lock(directory: Path) -> int:
    """Mark a directory as in use for as long as this process lives."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _remove(directory: Path, lock: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


def _sweep(place: Path) -> None:
    """Remove the directories of jobs that were killed."""
    for directory in _abandoned(place):
        try:
            lock = _lock(directory)
        except OSError:  # in use, of somebody else, or just removed
            continue
        _remove(directory, lock)
        logger.info("scratch_directory_removed", extra={"directory": str(directory)})


def _abandoned(place: Path) -> Iterator[Path]:
    for directory in place.glob(f"{_PREFIX}*"):
        try:
            age_seconds = time.time() - directory.stat().st_mtime
        except OSError:
            continue
        if age_seconds > _NEW_SECONDS:
            yield directory
