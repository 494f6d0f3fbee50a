"""Training CSV of any size, the same bytes for the same size: 28 features and a label to learn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_FEATURES = 28
_SEED = 20261122
_BLOCK_ROWS = 20_000
_CHUNK_BYTES = 2**20


def write(file: Path, n_bytes: int) -> None:
    """Write records up to a size in bytes; do nothing if the file exists."""
    if file.exists() and file.stat().st_size >= n_bytes:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    n_written = 0
    with unfinished.open("wb") as stream:
        for block in _blocks():
            n_written += stream.write(block)
            if n_written >= n_bytes:
                break
    unfinished.rename(file)


def warm_page_cache(file: Path) -> None:
    """Read a file so that the kernel has it in memory; this process needs a megabyte for it."""
    buffer = bytearray(_CHUNK_BYTES)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _blocks() -> Iterator[bytes]:
    """Lines `label,f1,…,f28`: normal numbers of six digits, as pandas or a database writes them."""
    rng = np.random.default_rng(_SEED)
    while True:
        features = rng.normal(size=(_BLOCK_ROWS, N_FEATURES))
        signal = features[:, 0] + features[:, 1] * features[:, 2] + rng.normal(size=_BLOCK_ROWS)
        lines = (
            f"{int(value > 0)}," + ",".join([f"{cell:.6g}" for cell in row])
            for value, row in zip(signal.tolist(), features.tolist(), strict=True)
        )
        yield ("\n".join(lines) + "\n").encode()
