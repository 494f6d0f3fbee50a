"""Files of a channel.

Every regular file below the channel's directory belongs to it, at any depth; links are followed.
Names that begin with a dot or an underscore (`.DS_Store`, `_SUCCESS`, `_temporary/`) and empty
files are skipped.
A directory counts once, however many links lead to it, and a link to one that contains the channel
is not followed: beside the channel lie the others. Files are read in the order of their paths.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def data_files(directory: Path) -> list[Path]:
    """List the files of the channel at `directory`, which may be a file itself.

    Raises:
        OSError: a directory cannot be read.
    """
    if directory.is_file():
        return [directory]
    files = [
        folder / name
        for folder, names in _folders(directory)
        for name in names
        if not _is_foreign(name)
    ]
    return sorted(path for path in files if path.is_file() and path.stat().st_size > 0)


def _folders(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every directory of the channel with the names in it."""
    top = os.path.realpath(directory)
    seen: set[str] = set()
    for folder, folders, names in os.walk(directory, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        is_above = real != top and os.path.commonpath([real, top]) == real
        if real in seen or is_above:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_foreign(name))
        yield Path(folder), names


def _is_foreign(name: str) -> bool:
    return name.startswith((".", "_"))


def _raise(error: OSError) -> None:
    raise error
