"""Open the channels that an algorithm uses: input mode, content type, files or FIFOs.

Files and FIFOs are described in `train.input.files` and `train.input.pipes`, formats in
`container.codecs`; nothing is ever written into a channel (C-016, C-018).
"""

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from container import cgroup, content_types
from container.algorithms.contract import Algorithm
from container.algorithms.training_contract import Cluster
from container.codecs import parquet_codec
from container.codecs.records import Columns
from container.errors import ChannelError, UnsupportedContentTypeError
from container.opt_ml import ChannelConfig, OptMl
from train.input.channel import Origin, StoredChannel
from train.input.column_order import ColumnOrder
from train.input.files import data_files
from train.input.libsvm_base import LibsvmBase
from train.input.parsing import parallel_parser
from train.input.scratch import Scratch
from train.input.sources import FileSource, PipeSource, Source
from train.input.tables.stored_table import StoredTable
from train.input.tables.table_schema import TableSchema

logger = logging.getLogger(__name__)

_FILE_MODES = ("File", "FastFile")
_PIPE_MODE = "Pipe"


def open_channels(
    opt_ml: OptMl,
    algorithm: Algorithm,
    columns: Columns,
    scratch: Scratch,
    hosts: Cluster,
    libsvm_base: LibsvmBase,
) -> dict[str, StoredChannel]:
    """Return the channels that the algorithm uses, in its order. No record and no FIFO is read.

    Args:
        libsvm_base: Decides when the first record is read.
    Raises:
        ChannelError: a required channel is missing, or one that is used cannot be.
    """
    n_hosts = len(hosts.hosts)
    order = ColumnOrder(hosts)
    n_processes = parallel_parser.process_count(cgroup.cpu_count(), scratch.memory_bytes)
    return {
        name: StoredChannel(
            name,
            _origin(opt_ml, name, config, algorithm, columns, n_hosts),
            columns,
            scratch,
            n_processes,
            order,
            libsvm_base,
            hosts,
        )
        for name, config in _used(opt_ml, algorithm).items()
    }


def open_tables(opt_ml: OptMl, algorithm: Algorithm, columns: Columns) -> dict[str, StoredTable]:
    """Return the channels of an algorithm that trains on tables; as `open_channels` does."""
    schema = TableSchema()
    return {
        name: StoredTable(
            name,
            _origin(opt_ml, name, config, algorithm, columns, n_hosts=1),
            content_types.parse(config.content_type or "").parameters,
            columns,
            schema,
            algorithm.capabilities.takes_missing,
        )
        for name, config in _used(opt_ml, algorithm).items()
    }


def _used(opt_ml: OptMl, algorithm: Algorithm) -> dict[str, ChannelConfig]:
    """Return the channels that the algorithm uses and the job has, in the algorithm's order."""
    configs = opt_ml.channels()
    found = ", ".join(map(repr, sorted(configs))) or "none"
    for name in algorithm.required_channels:
        if name not in configs:
            raise ChannelError(f"channel {name!r} is required and missing; channels found: {found}")
    used = (*algorithm.required_channels, *algorithm.optional_channels)
    for name in configs:
        if name not in used:
            logger.warning("channel_ignored", extra={"channel": name, "used": list(used)})
    return {name: configs[name] for name in used if name in configs}


def _origin(
    opt_ml: OptMl,
    name: str,
    config: ChannelConfig,
    algorithm: Algorithm,
    columns: Columns,
    n_hosts: int,
) -> Origin:
    if config.input_mode not in (*_FILE_MODES, _PIPE_MODE):
        raise ChannelError(
            f"channel {name!r}: TrainingInputMode {config.input_mode!r} is not known; "
            f"use {', '.join(_FILE_MODES)} or {_PIPE_MODE}"
        )
    check_type = functools.partial(_check_type, name, algorithm)
    declared = _declared_type(name, config, algorithm, columns)
    if declared is not None:
        check_type(declared)
    is_shard = n_hosts > 1 and config.distribution == "ShardedByS3Key"
    sources: Callable[[], Iterator[Source]]
    facts = {"channel": name, "input_mode": config.input_mode, "content_type": declared}
    if config.input_mode == _PIPE_MODE:
        sources = _pipes(opt_ml, name, config)
        logger.info("channel_opened", extra=facts)
    else:
        files = _files(opt_ml.data_dir / name, name, may_be_empty=is_shard)
        sources = functools.partial(iter, files)
        n_bytes = sum(file.path.stat().st_size for file in files)
        logger.info("channel_opened", extra=facts | {"n_files": len(files), "n_bytes": n_bytes})
    return Origin(sources, declared, check_type, may_be_empty=is_shard)


def _pipes(opt_ml: OptMl, name: str, config: ChannelConfig) -> Callable[[], Iterator[Source]]:
    """Return a function whose every call gives the FIFO of the next epoch."""
    if config.record_wrapper != "None":
        raise ChannelError(
            f"channel {name!r}: RecordWrapperType {config.record_wrapper!r} is not supported; "
            "leave it out, so that the FIFO carries the objects as they are"
        )
    epochs = itertools.count()
    return lambda: iter([PipeSource(opt_ml.data_dir / f"{name}_{next(epochs)}", name)])


def _files(directory: Path, name: str, *, may_be_empty: bool) -> list[FileSource]:
    if not directory.exists():
        if may_be_empty:
            return []
        raise ChannelError(f"channel {name!r}: the directory input/data/{name} does not exist")
    try:
        files = [FileSource(path, directory) for path in data_files(directory)]
    except OSError as error:
        raise ChannelError(f"channel {name!r} cannot be listed: {error.strerror}") from error
    if not files and not may_be_empty:
        raise ChannelError(
            f"channel {name!r} holds no data: no file that is not empty and whose name does not "
            "begin with a dot or an underscore"
        )
    return files


def _declared_type(
    name: str, config: ChannelConfig, algorithm: Algorithm, columns: Columns
) -> str | None:
    media = content_types.parse(config.content_type or "")
    label_size = media.parameters.get("label_size", str(columns.label_size))
    if label_size != str(columns.label_size):
        raise ChannelError(
            f"channel {name!r}: label_size={label_size!r} is not supported for training by "
            f"{algorithm.name}; use label_size={columns.label_size}"
        )
    return media.name or None


def _check_type(name: str, algorithm: Algorithm, content_type: str) -> None:
    if content_type not in algorithm.training_types:
        refusal = UnsupportedContentTypeError(content_type, algorithm.training_types)
        raise ChannelError(f"channel {name!r}: {refusal.message}")
    if content_type == content_types.PARQUET and not parquet_codec.is_available():
        others = [kind for kind in algorithm.training_types if kind != content_type]
        raise ChannelError(
            f"channel {name!r}: {content_type} needs {parquet_codec.LIBRARY}, which the slim image "
            f"does not have; use the full image, or send one of: {', '.join(others)}"
        )
