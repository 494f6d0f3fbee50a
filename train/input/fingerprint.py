"""Fingerprint of a channel: detects other data without reading all of it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from train.input.files import data_files

_N_BYTES = 4096


def of_channel(directory: Path) -> str:
    """Hash the files of the channel at `directory`.

    Empty in Pipe mode, which has no files: all data count as the same.
    """
    return of_files(directory, data_files(directory)) if directory.exists() else ""


def of_hosts(fingerprints: Sequence[str]) -> str:
    """Combine the fingerprints of a channel on each host; the order of the hosts matters."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:16]


def of_files(directory: Path, files: Sequence[Path]) -> str:
    """Hash every file's path below `directory`, its size, and its first and last 4 KiB.

    Times are left out: the platform downloads the files again after an interruption.
    """
    digest = hashlib.sha256()
    for file in files:
        n_bytes = file.stat().st_size
        digest.update(
            f"{file.relative_to(directory).as_posix()}\0{n_bytes}\0".encode(
                errors="surrogateescape"
            )
        )
        with file.open("rb") as stream:
            digest.update(stream.read(_N_BYTES))
            stream.seek(max(_N_BYTES, n_bytes - _N_BYTES))
            digest.update(stream.read(_N_BYTES))
    return digest.hexdigest()[:16]
