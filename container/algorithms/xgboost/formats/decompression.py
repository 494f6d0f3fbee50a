"""Decompression of model files, with a limit against decompression bombs.

`joblib.dump(model, file, compress=...)` writes one of these formats, and so do `gzip model.pkl` and
its like.
"""

import re
from collections.abc import Callable
from typing import Any

from container import cgroup
from container.errors import ModelLoadError

_LZMA_MEMORY_BYTES = 2**28  # for its dictionary; the strongest preset takes 65 MiB
_FORMATS = {
    "zlib": rb"\x78[\x01\x5e\x9c\xda]",
    "gzip": rb"\x1f\x8b",
    "bzip2": rb"BZh[1-9]",
    "xz": rb"\xfd7zXZ\x00",
    "lzma": rb"\x5d\x00\x00",
    "lz4": rb"\x04\x22\x4d\x18",
}
_HEAD = re.compile(b"|".join(b"(?P<%s>%s)" % (n.encode(), h) for n, h in _FORMATS.items()))


def is_compressed(head: bytes) -> bool:
    """Return whether bytes begin with the signature of a compressed file."""
    return _HEAD.match(head) is not None


def decompress(content: bytes, name: str) -> bytes:
    """Return the bytes of a compressed file, within a limit against decompression bombs.

    Args:
        content: Bytes for which `is_compressed` is true.
        name: The file's name, for the message.
    Raises:
        ModelLoadError: the file is damaged, has an unsupported compression, or decompresses to
            more than a quarter of the container's memory.
    """
    limit = cgroup.memory_bytes() // 4
    found = _HEAD.match(content)
    kind = str(found.lastgroup) if found else "nothing"
    if kind not in _DECOMPRESSORS:
        raise ModelLoadError(
            f"{name} is compressed by {kind}, which is not read; decompress it, or compress it by "
            f"{', '.join(_DECOMPRESSORS)}"
        )
    try:
        decompressor = _DECOMPRESSORS[kind]()
        plain: bytes = decompressor.decompress(content, limit + 1)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise ModelLoadError(f"{name} is damaged: its {kind} does not decompress") from error
    if len(plain) > limit:
        raise ModelLoadError(
            f"{name} decompresses to more than {limit / 2**20:.0f} MiB, a quarter of the "
            "container's memory; decompress it before you pack the artifact, or grant more memory"
        )
    if not decompressor.eof:
        raise ModelLoadError(f"{name} is damaged: its {kind} ends early; copy it again")
    return plain


def _zlib() -> Any:
    import zlib

    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip, whichever it is


def _bzip2() -> Any:
    import bz2

    return bz2.BZ2Decompressor()


def _lzma() -> Any:
    import lzma

    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)  # xz or lzma


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zlib": _zlib,
    "gzip": _zlib,
    "bzip2": _bzip2,
    "xz": _lzma,
    "lzma": _lzma,
}
