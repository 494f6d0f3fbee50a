"""Scratch space of a job: a memory budget and a directory for temporary files.

The directory is the one with the most free space among the temporary directory (`TMPDIR`, else
/tmp), `/opt/ml` and `/opt/ml/output`: on the platform they are separate volumes, and with `docker
run --read-only --tmpfs /tmp` only some are writable. File systems in memory, such as tmpfs, are
excluded, since their files count against the job's memory. If no directory is left, everything
stays in memory, and the log says so.
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
    """Memory budget and temporary files of one job; thread-safe."""

    def __init__(self, base_dir: Path, *, memory_bytes: int | None = None) -> None:
        """Find the directory.

        Args:
            base_dir: `/opt/ml`.
            memory_bytes: Memory limit of the job; by default that of the control group.
        """
        self.memory_bytes = memory_bytes or cgroup.memory_bytes()
        self._left_for_records = int(self.memory_bytes * _SHARE_FOR_RECORDS)
        self._base = _roomiest([Path(tempfile.gettempdir()), base_dir, base_dir / "output"])
        self._directory: Path | None = None
        self._lock = threading.Lock()
        if self._base is None:
            logger.warning("no_disk_for_temporary_files", extra={"instead": "memory"})

    @property
    def has_disk(self) -> bool:
        """True if there is a directory outside memory."""
        return self._base is not None

    def keep_in_memory(self, n_bytes: int) -> bool:
        """Reserve memory for records; False if the budget does not hold `n_bytes` more."""
        with self._lock:
            if n_bytes > self._left_for_records and self.has_disk:
                return False
            self._left_for_records -= n_bytes
            return True

    def release(self, n_bytes: int) -> None:
        """Release memory that `keep_in_memory` reserved."""
        with self._lock:
            self._left_for_records += n_bytes

    def open_file(self) -> IO[bytes]:
        """Open an unbuffered file without a name: the kernel removes it when the process ends."""
        return tempfile.TemporaryFile(dir=self._base, buffering=0)

    def directory(self) -> Path:
        """Return the directory for files that need names; the first call makes it.

        It is removed with this object, or, after a SIGKILL, when the next job begins.
        """
        if self._directory is None:
            base = self._base or Path(tempfile.gettempdir())
            _sweep(base)
            self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
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
    """Return the type of the file system that holds `path`, e.g. `ext4`; empty if unknown.

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


def _sweep(base: Path) -> None:
    """Remove the directories of jobs that were killed."""
    for directory in _abandoned(base):
        try:
            lock = _lock(directory)
        except OSError:  # in use, of somebody else, or just removed
            continue
        _remove(directory, lock)
        logger.info("scratch_directory_removed", extra={"directory": str(directory)})


def _abandoned(base: Path) -> Iterator[Path]:
    for directory in base.glob(f"{_PREFIX}*"):
        try:
            age_seconds = time.time() - directory.stat().st_mtime
        except OSError:
            continue
        if age_seconds > _NEW_SECONDS:
            yield directory
