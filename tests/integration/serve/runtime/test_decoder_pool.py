"""Decoder processes may crash, hang and exceed memory without harm to the worker."""

import io
import os
import pickle
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from container import codecs
from container.codecs.records import Columns
from container.errors import (
    ContainerError,
    MalformedPayloadError,
    OutOfMemoryError,
    OverloadedError,
    PlatformError,
)
from serve.runtime import decoder_pool
from serve.runtime.decoder_pool import DecoderPool

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PARQUET = "application/x-parquet"
SLOW_MACHINE_SECONDS = 60.0

# A decoder whose codec does as the body says; `main` is the product's own.
PROGRAM = """
import ctypes, os, signal, sys, time
import numpy as np
from container import codecs
from container.codecs.records import Batch
from container.errors import MalformedPayloadError
from serve.runtime import decoder

def decode(body, columns):
    word = bytes(body).decode()
    if word == "abort":
        os.abort()
    if word == "segfault":
        ctypes.string_at(0)
    if word == "hang":
        while True:
            time.sleep(1)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "memory":
        np.ones(2**28)
    if word == "bug":
        raise IndexError("secret")
    if word == "problem":
        raise MalformedPayloadError("it is bad", record=3, column=2)
    if word == "pid":
        return Batch(np.array([[os.getpid()]], dtype=np.float32))
    if word == "width":
        return Batch(np.ones((1, 4), dtype=np.float32))
    if word == "shape":
        decoder._described = lambda batch: {"shapes": {"features": [2**20, 2**20]}}
        return Batch(np.ones((1, 1), dtype=np.float32))
    raise AssertionError(word)

codecs.decoder = lambda content_type: decode
if "--broken" in sys.argv:
    sys.exit(3)
decoder.main()
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[DecoderPool]:
    """A pool of one process, which acts as the body says."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = (sys.executable, str(program))
    pool = DecoderPool(n_processes=1, max_seconds=SLOW_MACHINE_SECONDS, command=command)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def parquet_pool() -> Iterator[DecoderPool]:
    """The product's own decoders."""
    pool = DecoderPool(max_seconds=SLOW_MACHINE_SECONDS)
    yield pool
    pool.close()


def parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def process_of(pool: DecoderPool) -> int:
    return int(np.asarray(pool.decode(PARQUET, b"pid", Columns()).features)[0, 0])


@pytest.mark.parametrize("label_size", [0, 1])
@pytest.mark.parametrize("has_weight", [False, True])
def test_records_are_those_of_the_codec(
    parquet_pool: DecoderPool, label_size: int, has_weight: bool
) -> None:
    """Features, labels and weights are bit-identical, NaN included, and writable."""
    random = np.random.default_rng(5)
    cells = random.normal(size=(1000, 5))
    cells[::7, 4] = np.nan
    body = parquet(**{f"c{index}": column for index, column in enumerate(cells.T)})
    columns = Columns(label_size=label_size, has_weight=has_weight)

    batch = parquet_pool.decode(PARQUET, body, columns)

    expected = codecs.decoder(PARQUET)(body, columns)
    np.testing.assert_array_equal(batch.features, expected.features, strict=True)
    for name in ("labels", "weights"):
        found, wanted = getattr(batch, name), getattr(expected, name)
        assert (found is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(found, wanted, strict=True)
    assert isinstance(batch.features, np.ndarray)
    assert batch.features.flags.writeable


def test_many_cells_come_back(parquet_pool: DecoderPool) -> None:
    """Bodies and arrays may be larger than a socket's buffer."""
    column = np.arange(2**20, dtype=np.float32)
    body = parquet(a=column, b=-column)

    features = parquet_pool.decode(PARQUET, body, Columns()).features

    np.testing.assert_array_equal(features, np.column_stack([column, -column]))


def test_refusal_of_the_codec_is_passed_on(pool: DecoderPool) -> None:
    """The problem and its position are passed on, and the process stays."""
    before = process_of(pool)

    with pytest.raises(MalformedPayloadError) as caught:
        pool.decode(PARQUET, b"problem", Columns())

    assert caught.value.message == "record 3, column 2: it is bad"
    assert (caught.value.record, caught.value.column) == (3, 2)
    assert process_of(pool) == before


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"abort", MalformedPayloadError, "the decoder crashed (SIGABRT)"),
        (b"abort", MalformedPayloadError, "bytes of memory; write the file again, or send fewer"),
        (b"segfault", MalformedPayloadError, "the decoder crashed (SIGSEGV)"),
        (b"killed", OutOfMemoryError, "probably because memory ran out"),
        (b"shape", MalformedPayloadError, "cannot be decoded as application/x-parquet"),
        (b"width", MalformedPayloadError, "cannot be decoded as application/x-parquet"),
    ],
)
def test_death_of_the_process_costs_one_body(
    pool: DecoderPool, body: bytes, error: type[ContainerError], words: str
) -> None:
    """A crash refuses one body, and the next body gets another process (C-057)."""
    before = process_of(pool)

    with pytest.raises(error) as caught:
        pool.decode(PARQUET, body, Columns(n_features=1))

    assert words in caught.value.message
    assert process_of(pool) != before


def test_process_that_died_in_between_is_replaced(pool: DecoderPool) -> None:
    """A process that was killed while idle is replaced; no body fails for it."""
    before = process_of(pool)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)

    assert process_of(pool) != before


def test_body_that_takes_too_long_is_refused(pool: DecoderPool) -> None:
    """A decoder that hangs is stopped at its time limit."""
    before = process_of(pool)
    pool.limit_seconds(1.0)  # of which two fifths are for the work

    with pytest.raises(MalformedPayloadError, match=r"takes longer than 0\.4 s to decode"):
        pool.decode(PARQUET, b"hang", Columns())

    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_memory_of_a_body_is_limited(pool: DecoderPool) -> None:
    """A body that needs 2 GiB is refused with the limit, and the process stays."""
    before = process_of(pool)

    with pytest.raises(MalformedPayloadError, match="bytes of memory to decode, the limit for one"):
        pool.decode(PARQUET, b"memory", Columns())

    assert process_of(pool) == before


def test_fault_of_our_own_is_no_fault_of_the_client(pool: DecoderPool) -> None:
    """A bug of a codec is a 500 whose cause is only in the log."""
    with pytest.raises(RuntimeError, match="failed with IndexError: secret"):
        pool.decode(PARQUET, b"bug", Columns())


def test_process_that_cannot_start_is_a_fault_of_the_platform(pool: DecoderPool) -> None:
    """A decoder that exits at its start is no fault of the body."""
    pool.command.append("--broken")

    with pytest.raises(PlatformError, match="ended at its start: exit code 3"):
        pool.decode(PARQUET, b"pid", Columns())


def test_program_that_does_not_exist_is_a_fault_of_the_platform(pool: DecoderPool) -> None:
    """The error names the reason why no process can be started."""
    pool.command[0] = "/nonexistent/python"

    with pytest.raises(PlatformError, match="cannot be started: No such file"):
        pool.decode(PARQUET, b"pid", Columns())


def test_bodies_beyond_the_processes_wait_and_are_refused(pool: DecoderPool) -> None:
    """One of two bodies is decoded; the other one is refused with 503."""
    process_of(pool)
    pool.limit_seconds(4.0)
    began = threading.Barrier(2)

    def ask() -> Exception | None:
        began.wait()
        try:
            pool.decode(PARQUET, b"hang", Columns())
        except ContainerError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as threads:
        errors = [future.result() for future in [threads.submit(ask), threads.submit(ask)]]

    assert {type(error) for error in errors} <= {OverloadedError, MalformedPayloadError}
    assert MalformedPayloadError in map(type, errors)


def test_process_ends_with_its_owner(pool: DecoderPool) -> None:
    """Decoders exit with a worker that is killed: its end of the socket closes."""
    process_id = process_of(pool)
    decoder = pool._idle[0]

    decoder._connection.close()

    assert decoder._process.wait(SLOW_MACHINE_SECONDS) == 0
    assert decoder._process.pid == process_id


def test_signals_to_the_group_are_left_to_the_server(pool: DecoderPool) -> None:
    """Decoders ignore SIGTERM and SIGINT, as the server drains with their help."""
    process_id = process_of(pool)

    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process_id, number)

    assert process_of(pool) == process_id


def test_only_formats_with_a_native_parser_are_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats that are not isolated are decoded in the worker."""

    def refuse(*_: object) -> None:
        raise AssertionError("sent to another process")

    monkeypatch.setattr(decoder_pool.POOL, "decode", refuse)

    assert decoder_pool.decoder("text/csv")(b"1,2\n", Columns()).n_rows == 1


def test_columns_can_be_sent() -> None:
    """All columns of a request reach the decoder process."""
    columns = Columns(label_size=1, n_features=3)

    assert pickle.loads(pickle.dumps(columns)) == columns  # noqa: S301


def test_pages_that_unpack_to_far_more_are_refused(parquet_pool: DecoderPool) -> None:
    """A body of 400 kB whose decimals would take a gigabyte is refused."""
    decimals = pa.array([0] * 100_000, pa.int64()).cast(pa.decimal256(76, 0))
    stream = io.BytesIO()
    table = pa.table({f"c{index}": decimals for index in range(330)})
    pq.write_table(table, stream, use_dictionary=False, compression="zstd")
    assert len(stream.getvalue()) < 2**19

    with pytest.raises(MalformedPayloadError, match="send fewer records at once"):
        parquet_pool.decode(PARQUET, stream.getvalue(), Columns())
