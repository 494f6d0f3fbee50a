"""Splitting of text, one record a line, into pieces: a body of 100 MB is never held twice."""

from collections.abc import Iterator

PIECE_BYTES = 2**18  # the data made from a piece fit into a core's own cache

BOM = b"\xef\xbb\xbf"
_TAIL_BYTES = 2**12


def trimmed(body: bytes) -> bytes:
    """Return the text without a byte order mark and without trailing line ends."""
    return body.removeprefix(BOM).rstrip(b"\r\n")


def pieces(body: bytes, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """Cut text into whole lines, about `size` bytes at a time; a longer line is a piece of its own.

    Yields:
        Lines of `trimmed(body)`, without the line end of the last one.
    """
    start = len(BOM) if body.startswith(BOM) else 0
    end = _end(body)
    while start < end:
        stop = end if end - start <= size else body.rfind(b"\n", start, start + size)
        if stop < 0:
            stop = body.find(b"\n", start + size, end)
            stop = end if stop < 0 else stop
        yield body[start:stop].removesuffix(b"\r")
        start = stop + 1


def _end(body: bytes) -> int:
    """Find the length without trailing line ends, as `trimmed` strips them, without a copy."""
    end = len(body)
    while end > 0:
        start = max(end - _TAIL_BYTES, 0)
        tail = body[start:end].rstrip(b"\r\n")
        if tail:
            return start + len(tail)
        end = start
    return 0
