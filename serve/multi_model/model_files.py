"""Files of a model: a path traversal check of its url, and the identity of its files."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from container import cgroup
from container.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError

MAX_URL_CHARACTERS = 4096
# To read so many takes seconds; the largest frameworks that a model's code may bring have 20,000.
_MAX_MEMBERS = 50_000
_MAX_DEPTH = 100


class _File(NamedTuple):
    name: str  # relative to the model directory
    stat: os.stat_result


def directory_of(url: str, roots: Sequence[Path]) -> Path:
    """Return the model directory that `url` names; the path traversal check of `POST /models`.

    Raises:
        InvalidRequestError: `url` is not an absolute path, or does not lead below one of `roots`
            once `..` and links are resolved.
        ModelNotFoundError: there is no such directory.
    """
    if not url.startswith("/") or "\0" in url or len(url) > MAX_URL_CHARACTERS:
        raise InvalidRequestError(
            "url must be the absolute path of a directory, e.g. /opt/ml/models/NAME/model"
        )
    try:
        path = Path(os.path.realpath(url))
        is_directory = path.is_dir()
    except OSError:
        is_directory = False
    if not any(Path(os.path.realpath(root)) in path.parents for root in roots):
        raise InvalidRequestError(
            "url is outside the directories of models, or is one of them itself: it must lie below "
            "one of BYOA_MODEL_ROOTS, by default /opt/ml/models and /opt/ml/model; links are "
            "followed"
        )
    if not is_directory:
        raise ModelNotFoundError("there is no directory of that url")
    return path


def signature(directory: Path) -> str:
    """Return a hash of the files' names, sizes and times; it takes microseconds a file.

    It changes when a file is written, replaced, added or removed.

    Raises:
        ModelLoadError: the directory cannot be read, or holds something that is not a file.
    """
    facts = [
        (name, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        for name, facts in _files(directory)
    ]
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def digest(directory: Path) -> str:
    """Return a hash of the files' names and contents, the same wherever they lie.

    Raises:
        ModelLoadError: a file cannot be read, or there is more to read than the memory granted.
    """
    files = list(_files(directory))
    n_bytes, max_bytes = sum(file.stat.st_size for file in files), cgroup.memory_bytes()
    if n_bytes > max_bytes:
        raise ModelLoadError(
            f"the model's files have {n_bytes / 2**20:.0f} MiB together; the container has "
            f"{max_bytes / 2**20:.0f} MiB of memory"
        )
    whole = hashlib.sha256()
    for file in files:
        try:
            with open(directory / file.name, "rb", opener=_open_without_waiting) as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
        whole.update(repr((file.name, content)).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _files(directory: Path) -> Iterator[_File]:
    """Yield every file below `directory`, in the order of their names.

    A link is followed to a file inside the directory, not to one outside, and never to a directory.
    """
    try:
        for entry in _members(directory):
            name = entry.path.removeprefix(f"{directory}/")
            facts = entry.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise ModelLoadError(f"{name} is neither a file nor a directory")
            if entry.is_symlink() and not _is_inside(entry.path, directory):
                raise ModelLoadError(f"{name} is a link to a file outside the model directory")
            yield _File(name, facts)
    except OSError as error:
        raise ModelLoadError(f"the model directory cannot be read: {error.strerror}") from error


def _members(top: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all entries below `top` but directories; raises `ModelLoadError` for too many."""
    n_left = _MAX_MEMBERS
    pending = [(str(top), 0)]
    while pending:
        directory, depth = pending.pop()
        with os.scandir(directory) as entries:
            found = sorted(islice(entries, n_left + 1), key=lambda entry: entry.name)
        n_left -= len(found)
        if n_left < 0 or depth > _MAX_DEPTH:
            raise ModelLoadError(
                f"the model directory holds more than {_MAX_MEMBERS} files and directories, or is "
                f"more than {_MAX_DEPTH} directories deep"
            )
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, depth + 1))
            else:
                yield entry


def _is_inside(path: str, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(directory)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting: it may have become a FIFO meanwhile."""
    return os.open(path, flags | os.O_NONBLOCK)
