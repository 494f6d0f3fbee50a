"""Sources of a channel's bytes: files of a directory, or one FIFO an epoch.

`Stream` opens a source and decompresses gzip. Its first bytes tell the format of a channel that
declares no content type.
"""

import codecs
import gzip
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from container import content_types
from train.input.pipes import open_pipe

_HEAD_BYTES = 2**16
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_RECORDIO_MAGIC = b"\x0a\x23\xd7\xce"
# A record of libsvm without features, or one of CSV without columns: the next line tells.
_LABEL_ALONE = re.compile(rb"([-+.\deE]+(:[-+.\deE]+)?)?")
_LIBSVM_LINE = re.compile(rb"\s*[-+.\deE]+(:[-+.\deE]+)?\s+(qid:|\d+:([-+.\d\snN]|$))")


class Source(Protocol):
    """File or FIFO; the stream that `open` returns is read once, from its beginning."""

    @property
    def name(self) -> str:
        """Name for messages, e.g. `file 'part-0.csv'`."""

    def open(self) -> IO[bytes]:
        """Open the bytes as they are, maybe compressed."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of a channel's directory."""

    path: Path
    directory: Path

    @property
    def name(self) -> str:
        inside = self.path != self.directory
        return f"file {str(self.path.relative_to(self.directory)) if inside else self.path.name!r}"

    def open(self) -> IO[bytes]:
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class PipeSource:
    """The FIFO of one epoch; see `train.input.pipes`."""

    path: Path
    channel: str

    @property
    def name(self) -> str:
        return f"FIFO {self.path.name!r}"

    def open(self) -> IO[bytes]:
        return cast(IO[bytes], io.BufferedReader(open_pipe(self.path, channel=self.channel)))


class Stream:
    """An open source, decompressed."""

    def __init__(self, source: Source) -> None:
        """Open the source and read its first bytes.

        Raises:
            ChannelError: a FIFO does not come.
            OSError, EOFError, zlib.error: it cannot be read.
        """
        self._opened: list[IO[bytes]] = [source.open()]
        try:
            self._can_seek = isinstance(source, FileSource)
            self.head = self._look_ahead()
            if self.head.startswith(_GZIP_MAGIC):
                self._can_seek = False
                self._opened.append(cast(IO[bytes], gzip.GzipFile(fileobj=self._opened[-1])))
                self.head = self._look_ahead()
        except BaseException:
            self.close()
            raise

    @property
    def raw(self) -> IO[bytes]:
        """The stream, at its beginning."""
        return self._opened[-1]

    @property
    def file(self) -> IO[bytes] | None:
        """The file itself, to use instead of `raw`; None if it cannot be sought in."""
        if not self._can_seek:
            return None
        self._opened[0].seek(0)
        return self._opened[0]

    def content_type(self) -> str | None:
        """Guess the format by magic number or first lines, a heuristic; None if empty."""
        if not self.head:
            return None
        if self.head.startswith(_PARQUET_MAGIC):
            return content_types.PARQUET
        if self.head.startswith(_RECORDIO_MAGIC):
            return content_types.RECORDIO
        for line in self.head.removeprefix(codecs.BOM_UTF8).splitlines():
            is_comment = line.lstrip().startswith(b"#")  # of libsvm; CSV has none
            if not is_comment and not _LABEL_ALONE.fullmatch(line.strip()):
                return content_types.LIBSVM if _LIBSVM_LINE.match(line) else content_types.CSV
        return content_types.CSV

    def close(self) -> None:
        """Close the source at any position."""
        for opened in reversed(self._opened):
            opened.close()

    def _look_ahead(self) -> bytes:
        head = self._opened[-1].read(_HEAD_BYTES)
        rest = cast(IO[bytes], io.BufferedReader(_Prefixed(head, self._opened[-1])))
        self._opened.append(rest)
        return head


class _Prefixed(io.RawIOBase):
    """Stream of the bytes that were read already, then of the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        if not self._head:
            return cast(io.BufferedReader, self._rest).readinto(target)
        piece, self._head = self._head[: len(target)], self._head[len(target) :]
        target[: len(piece)] = piece
        return len(piece)
