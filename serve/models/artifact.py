"""The files of a model: where they may lie, and what tells them from others."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from container.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError

MAX_URL_CHARACTERS = 4096


class _File(NamedTuple):
    name: str  # relative to the artifact
    facts: os.stat_result


def directory_of(url: str, roots: Sequence[Path]) -> Path:
    """The directory that `url` names, if models may be loaded from there.

    Raises:
        InvalidRequestError: it is no absolute path, or leads out of the roots, also by a link.
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
    if not any(path.is_relative_to(os.path.realpath(root)) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise InvalidRequestError(f"url leads out of the directories of models: {allowed}")
    if not is_directory:
        raise ModelNotFoundError("there is no directory of that url")
    return path


def signature(directory: Path) -> str:
    """What changes when a file is written, replaced, added or removed; takes microseconds a file.

    Raises:
        ModelLoadError: the directory cannot be read, or holds what is no file.
    """
    facts = (
        (file.name, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        for file in _files(directory)
        for facts in (file.facts,)
    )
    return hashlib.sha256(repr(list(facts)).encode("utf-8", "surrogateescape")).hexdigest()


def digest(directory: Path) -> str:
    """What is the same for the same files, wherever they lie.

    Raises:
        ModelLoadError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for file in _files(directory):
        try:
            with open(directory / file.name, "rb", opener=_open_without_waiting) as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
        whole.update(repr((file.name, content)).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _files(directory: Path) -> Iterator[_File]:
    """Every file below `directory` in the order of their names.

    A link is followed to a file inside, not to one outside, and never to a directory.
    """
    try:
        yield from _files_below(directory, directory)
    except OSError as error:
        raise ModelLoadError(f"the model directory cannot be read: {error.strerror}") from error


def _files_below(directory: Path, top: Path) -> Iterator[_File]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path), top)
            continue
        name = os.path.relpath(entry.path, top)
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelLoadError(f"{name} is neither a file nor a directory")
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(top):
            raise ModelLoadError(f"{name} is a link that leads out of the model directory")
        yield _File(name, facts)


def _open_without_waiting(path: str, flags: int) -> int:
    """In case that a file has meanwhile become a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)
