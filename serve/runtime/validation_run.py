"""Validation run: load a model and predict with it, in a child process that may crash.

A file in a safe format is not safe to parse: 26 of 191 mutated model files crashed XGBoost with
SIGSEGV while they were loaded, and others at the first prediction. A model therefore passes this
admission check in a forked child before the server loads it.
"""

import contextlib
import json
import logging
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from container import allocator
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Model, ServingOptions, TableModel, n_outputs
from container.codecs.answers import check
from container.codecs.records import Floats, SparseRows
from container.codecs.table import cells
from container.codecs.table.table import Table
from container.errors import ContainerError, ModelLoadError, PackageMissingError
from container.host_paths import shorten
from container.manifest import ModelManifest
from serve.runtime import row_parallelism

logger = logging.getLogger(__name__)

# Half of the 8 minutes in which the platform waits for the first successful ping.
MODEL_TIMEOUT_SECONDS = 240.0
_MAX_MESSAGE_BYTES = 2**16
_MAX_CELLS = 2**21  # features or outputs of all records of a validation run
_LARGEST = float(np.finfo(np.float32).max)
_MAX_PROBLEM_CHARACTERS = 4000  # of up to 12 bytes each in JSON: a pipe takes 64 KiB at once


def validate_model(
    algorithm: Algorithm,
    directory: Path,
    manifest: ModelManifest | None,
    options: ServingOptions,
) -> None:
    """Verify a model, load it and predict with it in all ways that the server does.

    Raises:
        ModelLoadError: the model cannot be used.
        PredictionError: the model refuses records that it should take.
    """
    records = algorithm.verify(directory, manifest)
    model = algorithm.load(directory, manifest, options)
    in_blocks = algorithm.capabilities.predicts_row_blocks
    predict_in_all_ways(model, one_record(model, manifest), records, in_blocks=in_blocks)


def one_record(model: Model | TableModel, manifest: ModelManifest | None) -> Floats | Table:
    """Return the example in the manifest, or a record of zeros."""
    if manifest is not None and manifest.model.example is not None:
        return cells.of_record(manifest)
    if manifest is not None and manifest.model.records is not None:
        return cells.of_record(manifest)
    return np.zeros((1, cast(Model, model).n_features), dtype=np.float32)


def predict_in_all_ways(
    model: Model | TableModel, one: Floats | Table, records: Floats | None, *, in_blocks: bool
) -> None:
    """Predict for one record and for many, dense and sparse, with a pattern in freed memory.

    A model may predict for a record of zeros, and crash for two records, or for a record that
    reaches another leaf. The pattern makes the use of freed memory a crash. Only for a process that
    may crash.

    Args:
        model: The loaded model.
        one: A record that it should predict, see `one_record`.
        records: Of `Algorithm.verify`, float32 `[n, n_features]`; None to predict for `one` only.
        in_blocks: True if the server predicts large bodies in row blocks.
    Raises:
        PredictionError: the model refuses records that it should take.
    """
    allocator.fill_with_pattern()
    check(cast(Any, model).predict(one), 1)
    if records is not None:  # not every algorithm takes missing values and sparse records
        _predict_many(cast(Model, model), records, in_blocks=in_blocks)
    allocator.release_free_memory()


def _predict_many(model: Model, records: Floats, *, in_blocks: bool) -> None:
    n_features = model.n_features
    n_records = max(1, _MAX_CELLS // max(1, n_features, n_outputs(model)))
    extremes = np.array([0, np.nan, *(-_LARGEST, _LARGEST)], dtype=np.float32)[:n_records]
    dense = np.repeat(extremes, n_features).reshape(len(extremes), n_features)
    dense = np.concatenate([dense, records])[:n_records]
    model.predict(dense)
    is_given = ~np.isnan(dense)
    offsets = np.concatenate([[0], np.cumsum(is_given.sum(axis=1))]).astype(np.int64)
    columns = np.nonzero(is_given)[1].astype(np.int32)
    model.predict(SparseRows(offsets, columns, dense[is_given], n_features))
    n_rows = 2 * row_parallelism.BLOCK_ROWS
    if in_blocks and n_rows <= n_records:
        row_parallelism.predict(model, np.resize(dense, (n_rows, n_features)))


def in_child(work: Callable[[], object], *, timeout_seconds: float = MODEL_TIMEOUT_SECONDS) -> None:
    """Run `work` in a forked child; this process must have no threads.

    Raises:
        ModelLoadError: the work raised it or another error, crashed, or took too long; its detail
            `is_memory` is true where the reason was lack of memory.
    """
    reader, writer = os.pipe()
    process_id = os.fork()
    if process_id == 0:
        os.close(reader)

        def without_result() -> None:
            work()

        run_and_exit(without_result, writer)
    os.close(writer)
    try:
        report = _read_until_closed(reader, time.monotonic() + timeout_seconds)
    finally:
        os.close(reader)
    if report is None:
        os.kill(process_id, signal.SIGKILL)
    _, status = os.waitpid(process_id, 0)
    judge(report, status, timeout_seconds)


def run_and_exit(
    work: Callable[[], Mapping[str, object] | None],
    writer: int,
    *,
    directory: Path | None = None,
) -> NoReturn:
    """Run `work` in this process, a child; write a report, and exit without the parent's clean-up.

    The report is JSON: with exit code 0 the result of the work, with exit code 1
    `{"problem": …, "is_memory": …}`.

    Args:
        writer: Descriptor of a pipe; the report fits into its buffer.
        directory: The model directory: paths below it are shown as relative ones.
    """
    report = b""
    exit_code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        report = json.dumps(work()).encode()
        exit_code = 0
    except ModuleNotFoundError as error:
        report = _failure(PackageMissingError(error.name or str(error)).message, directory)
    except MemoryError:
        report = _failure("it needs more memory than there is", directory, is_memory=True)
    except ContainerError as error:
        is_memory = isinstance(error.__cause__, MemoryError)
        report = _failure(error.message, directory, is_memory=is_memory)
    except BaseException as error:  # also SystemExit: the caller's own way out is not the child's
        logger.exception("validation_run_failed")
        report = _failure(ContainerError(f"{type(error).__name__}: {error}").message, directory)
    finally:
        with contextlib.suppress(OSError):  # the reader has gone, or the work has filled the pipe
            os.write(writer, report)
        os._exit(exit_code)


def _failure(problem: str, directory: Path | None, *, is_memory: bool = False) -> bytes:
    problem = shorten(problem, directory)[:_MAX_PROBLEM_CHARACTERS]
    return json.dumps({"problem": problem, "is_memory": is_memory}).encode()


def _read_until_closed(reader: int, deadline: float) -> bytes | None:
    """Read the report of a child; None where the child still runs at the deadline."""
    received = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(reader, _MAX_MESSAGE_BYTES)
        if not piece:
            return received
        received += piece


def judge(report: bytes | None, status: int, timeout_seconds: float) -> None:
    """Turn the report and the exit of a validation run into an error, if the model failed it.

    Args:
        report: Of `run_and_exit`, perhaps empty; None where the run took too long.
        status: Of `os.waitpid`.
        timeout_seconds: The limit of the run.
    Raises:
        ModelLoadError: the child did not exit with 0 in time.
    """
    if report is None:
        raise ModelLoadError(
            f"the model took longer than {timeout_seconds:g} s to load and predict once"
        )
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        hint = (
            "it was probably killed because memory ran out"
            if name == "SIGKILL"
            else "its file is damaged, or was made to crash the server"
        )
        problem = f"the model crashed the process that validated it ({name}); {hint}"
        raise ModelLoadError(problem, is_memory=name == "SIGKILL")
    exit_code = os.WEXITSTATUS(status)
    if exit_code != 0:
        failure = json.loads(report) if report else {}
        problem = (
            failure.get("problem")
            or f"the validation of the model ended with exit code {exit_code}"
        )
        raise ModelLoadError(problem, is_memory=failure.get("is_memory", False))
