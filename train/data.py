"""The channels of a job: which files belong to one, what format they have, records in chunks.

Every regular file below the channel's directory belongs to it, however deep, links followed; names
that begin with a dot or an underscore (`.DS_Store`, `_SUCCESS`) and empty files do not. Files are
read in the order of their paths, gzip undone. Nothing is ever written there (C-016, C-018).
"""

import gzip
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from container import codecs, content_types
from container.algorithms.base import Algorithm
from container.codecs.base import Batch, Columns, SparseRows
from container.errors import ChannelError, MalformedPayloadError, UnsupportedContentTypeError
from container.opt_ml import ChannelConfig, OptMl

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 16 * 2**20
_GZIP_MAGIC = b"\x1f\x8b"
_LIBSVM_LINE = re.compile(rb"\s*[-+.\deE]+(:[-+.\deE]+)?\s+\d+:[-+.\d]")


@dataclass(frozen=True, slots=True)
class FileChannel:
    """A channel whose files lie in a directory; see `container.algorithms.base.Channel`."""

    name: str
    files: tuple[Path, ...]
    content_type: str
    columns: Columns

    def batches(self) -> Iterator[Batch]:
        """Read all records, about 16 MiB of text at a time.

        Raises:
            ChannelError: naming the file and the line that cannot be read.
        """
        width = 0
        is_empty = True
        for file in self.files:
            for batch in self._batches_of(file):
                if not isinstance(batch.features, SparseRows):
                    width = width or batch.n_features
                    if batch.n_features != width:
                        raise self._error(
                            file,
                            f"{batch.n_features + self.columns.n_leading} columns where "
                            f"{self.files[0].name} has {width + self.columns.n_leading}",
                        )
                is_empty = False
                yield batch
        if is_empty:
            raise ChannelError(f"channel {self.name!r} holds no records: its files are empty")

    def _batches_of(self, file: Path) -> Iterator[Batch]:
        decode = codecs.decoder(self.content_type)
        n_lines = 0
        try:
            with _open(file) as stream:
                for chunk in _line_chunks(stream):
                    batch = decode(chunk, self.columns)
                    self._check_labels(file, batch, n_lines)
                    yield batch
                    n_lines += chunk.count(b"\n")
        except MalformedPayloadError as error:
            line = n_lines + (error.line or 1)
            column = f", column {error.column}" if error.column else ""
            raise self._error(file, f"line {line}{column}: {error.problem}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise self._error(file, f"cannot be read: {error}") from error

    def _check_labels(self, file: Path, batch: Batch, n_lines: int) -> None:
        for values, problem in (
            (batch.labels, "the label is missing; every record needs one"),
            (batch.weights, "the weight must be a number that is not negative"),
        ):
            if values is None:
                continue
            is_good = np.isfinite(values) & (values >= 0 if values is batch.weights else True)
            if not is_good.all():
                raise self._error(file, f"line {n_lines + int(np.argmin(is_good)) + 1}: {problem}")

    def _error(self, file: Path, problem: str) -> ChannelError:
        return ChannelError(f"channel {self.name!r}, file {file.name!r}: {problem}")


def open_channels(opt_ml: OptMl, algorithm: Algorithm, columns: Columns) -> dict[str, FileChannel]:
    """The channels that the algorithm uses, in its order.

    Raises:
        ChannelError: a required channel is missing, or one that is used cannot be.
    """
    configs = opt_ml.channels()
    found = ", ".join(map(repr, sorted(configs))) or "none"
    for name in algorithm.required_channels:
        if name not in configs:
            raise ChannelError(f"channel {name!r} is required and missing; channels found: {found}")
    used = (*algorithm.required_channels, *algorithm.optional_channels)
    for name in configs:
        if name not in used:
            logger.warning("channel_ignored", extra={"channel": name, "used": list(used)})
    return {
        name: _open_channel(opt_ml, name, configs[name], algorithm, columns)
        for name in used
        if name in configs
    }


def _open_channel(
    opt_ml: OptMl, name: str, config: ChannelConfig, algorithm: Algorithm, columns: Columns
) -> FileChannel:
    if config.input_mode not in ("File", "FastFile"):
        raise ChannelError(
            f"channel {name!r}: TrainingInputMode {config.input_mode!r} is not supported; "
            "use File or FastFile"
        )
    directory = opt_ml.data_dir / name
    if not directory.exists():
        raise ChannelError(f"channel {name!r}: the directory input/data/{name} does not exist")
    try:
        files = tuple(_data_files(directory))
    except OSError as error:
        raise ChannelError(f"channel {name!r} cannot be listed: {error}") from error
    if not files:
        raise ChannelError(
            f"channel {name!r} holds no data: no file that is not empty and whose name does not "
            "begin with a dot or an underscore"
        )
    media = content_types.parse(config.content_type or "")
    content_type = media.name or _recognise(files[0])
    if content_type not in algorithm.training_types:
        refusal = UnsupportedContentTypeError(content_type, algorithm.training_types)
        raise ChannelError(f"channel {name!r}: {refusal.message}")
    label_size = media.parameters.get("label_size", str(columns.label_size))
    if label_size != str(columns.label_size):
        raise ChannelError(
            f"channel {name!r}: label_size={label_size!r} is not supported for training by "
            f"{algorithm.name}; use label_size={columns.label_size}"
        )
    logger.info(
        "channel_opened",
        extra={
            "channel": name,
            "content_type": content_type,
            "content_type_is": "declared" if media.name else "recognised",
            "n_files": len(files),
            "n_bytes": sum(file.stat().st_size for file in files),
        },
    )
    return FileChannel(name, files, content_type, columns)


def _data_files(directory: Path) -> Iterable[Path]:
    if directory.is_file():
        return [directory]
    files: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(directory, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up, or a second one to the same place
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not _is_foreign(name)]
        paths = (Path(folder, name) for name in names if not _is_foreign(name))
        files.extend(path for path in paths if path.is_file() and path.stat().st_size > 0)
    return sorted(files)


def _is_foreign(name: str) -> bool:
    return name.startswith((".", "_"))


def _raise(error: OSError) -> None:
    raise error


def _open(file: Path) -> IO[bytes]:
    with file.open("rb") as stream:
        is_gzip = stream.read(2) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(file, "rb")) if is_gzip else file.open("rb")


def _line_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Cut a stream into chunks that end at the end of a line."""
    held: list[bytes] = []
    while block := stream.read(_CHUNK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, block[:end]])
            held = [block[end:]]
        else:
            held.append(block)
    if rest := b"".join(held):
        yield rest


def _recognise(file: Path) -> str:
    """The format of a channel that does not declare one, by its first line."""
    try:
        with _open(file) as stream:
            line = stream.readline(2**16)
    except (OSError, EOFError, zlib.error) as error:
        raise ChannelError(f"file {file.name!r} cannot be read: {error}") from error
    return content_types.LIBSVM if _LIBSVM_LINE.match(line) else content_types.CSV
