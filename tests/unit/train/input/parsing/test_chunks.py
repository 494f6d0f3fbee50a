"""Streams cut into chunks."""

import io

import pytest

from container import content_types
from container.codecs.recordio import recordio_codec
from container.codecs.records import Columns
from tests.unit.train.conftest import as_recordio
from train.input.parsing import chunks
from train.input.parsing.chunks import cut


class _Trickle(io.RawIOBase):
    """Gives 7 bytes at a time, as a FIFO may."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        n_bytes = min(7, len(buffer), len(self._rest))
        memoryview(buffer).cast("B")[:n_bytes] = self._rest[:n_bytes]
        self._rest = self._rest[n_bytes:]
        return n_bytes


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)


def _cut(content: bytes, content_type: str = content_types.CSV) -> list[chunks.Chunk]:
    return list(cut(io.BytesIO(content), content_type, "file 'a'"))


@pytest.mark.parametrize("last", [b"", b"\n", b"\n\n"])
def test_lines_are_never_cut(last: bytes) -> None:
    """Every chunk ends with a line, all together are the text, and each knows its place."""
    text = b"\n".join(b"%d,%d" % (i, i * i) for i in range(200)) + last

    parts = _cut(text)

    assert b"".join(part.data for part in parts) == text
    assert all(part.data.endswith(b"\n") for part in parts[:-1])
    assert all(len(part.data) <= 100 for part in parts)
    for part in parts[:-1]:
        assert part.data.startswith(b"%d," % part.n_before)


def test_chunks_do_not_depend_on_when_bytes_come() -> None:
    """The same data give the same batches in File and in Pipe mode."""
    text = b"".join(b"%d,%d\n" % (i, i * i) for i in range(200))

    assert list(cut(_Trickle(text), content_types.CSV, "file 'a'")) == _cut(text)


def test_line_longer_than_a_chunk_stays_whole() -> None:
    """A record of many columns makes a longer chunk."""
    long = b",".join([b"1"] * 1000)
    text = b"0\n" + long + b"\n0\n" + long

    parts = _cut(text)

    assert b"".join(part.data for part in parts) == text
    assert all(part.data.endswith(b"\n") for part in parts[:-1])
    assert parts[0].data == b"0\n"


def test_nothing_gives_no_chunk() -> None:
    """An empty stream has no records."""
    assert _cut(b"") == []


def test_frames_are_never_cut() -> None:
    """A binary format is cut where a record ends, found by its lengths."""
    rows = [[float(i), i + 0.5, -float(i)] for i in range(50)]
    content = as_recordio(rows)

    parts = _cut(content, content_types.RECORDIO)

    assert len(parts) > 10
    assert b"".join(part.data for part in parts) == content
    n_rows = 0
    for part in parts:
        batch = recordio_codec.decode(part.data, Columns(1))
        assert part.n_before == n_rows
        assert batch.labels is not None
        assert batch.labels[0] == rows[n_rows][0]
        n_rows += batch.n_rows
    assert n_rows == 50


@pytest.mark.parametrize("tail", [b"garbage, which is no frame", b"\x0a\x23\xd7\xce\xff\x00\x00"])
def test_what_is_no_frame_is_left_to_the_codec(tail: bytes) -> None:
    """It belongs to a chunk, so that it is refused and not passed over."""
    content = as_recordio([[1.0, 2.0]]) + tail

    assert b"".join(part.data for part in _cut(content, content_types.RECORDIO)) == content
