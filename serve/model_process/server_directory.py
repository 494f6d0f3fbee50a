"""Directory of a server for sockets and small files, removed at its end."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from serve.model_process.fork_messages import is_listening

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made there
_PREFIX = "byoa-models-"
_MIN_FREE_BYTES = 16 * 2**20


class ServerDirectory:
    """A directory that only the server's user may enter; made before the workers are forked."""

    def __init__(self) -> None:
        parent = _parent_directory()
        _remove_leftovers(parent)
        self._owner = os.getpid()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if os.getpid() == self._owner:  # a worker that ends unwinds this block, too
            shutil.rmtree(self.path, ignore_errors=True)


def _parent_directory() -> Path:
    """Return where small files are kept: in shared memory where there is room."""
    with contextlib.suppress(OSError):
        if os.access(_SHARED_MEMORY, os.W_OK) and (
            shutil.disk_usage(_SHARED_MEMORY).free >= _MIN_FREE_BYTES
        ):
            return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _remove_leftovers(parent: Path) -> None:
    """Remove directories of servers that were killed: nobody listens in them."""
    for directory in parent.glob(f"{_PREFIX}*"):
        if not is_listening(directory):
            shutil.rmtree(directory, ignore_errors=True)
