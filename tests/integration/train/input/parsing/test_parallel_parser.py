"""Parsing in several processes gives what parsing in one gives."""

import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import process
from pathlib import Path

import numpy as np
import pytest

from container import content_types
from container.codecs.records import Batch, Columns, SparseRows
from container.errors import AlgorithmError, MalformedPayloadError, PlatformError
from train.input.parsing import parallel_parser
from train.input.parsing.chunks import Chunk
from train.input.parsing.parallel_parser import parse

COLUMNS = Columns(label_size=1)


class _StartedProcesses(parallel_parser._Processes):
    """All of them run before the first chunk is theirs, as in a long reading."""

    def __init__(self, content_type: str, columns: Columns, n_processes: int) -> None:
        super().__init__(content_type, columns, n_processes)
        while not all(process.can_take() for process in self._processes):
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def _processes_from_the_second_chunk_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_parser, "_ALONE_BYTES", 1)
    monkeypatch.setattr(parallel_parser, "_Processes", _StartedProcesses)


def _chunks(texts: list[bytes]) -> Iterator[Chunk]:
    for number, text in enumerate(texts):
        yield Chunk("file 'a'", number, text)


def _parse(
    texts: list[bytes], content_type: str = content_types.CSV, n_processes: int = 2
) -> list[Batch | MalformedPayloadError]:
    parsed = list(parse(_chunks(texts), content_type, COLUMNS, n_processes=n_processes))
    assert [chunk.data for chunk, _ in parsed] == texts
    return [result for _, result in parsed]


def _dense(result: Batch | MalformedPayloadError) -> list[list[float]]:
    assert isinstance(result, Batch)
    assert result.labels is not None
    assert isinstance(result.features, np.ndarray)
    return np.column_stack([result.labels, result.features]).tolist()


@pytest.mark.parametrize("n_processes", [0, 2, 3])
def test_results_come_in_order(n_processes: int, caplog: pytest.LogCaptureFixture) -> None:
    """Any number of processes yields the same batches in the same order."""
    texts = [b"".join(b"%d,%d\n" % (i, j) for j in range(1 + i % 7)) for i in range(80)]

    with caplog.at_level(logging.INFO):
        results = _parse(texts, n_processes=n_processes)

    assert [_dense(result) for result in results] == [
        [[i, j] for j in range(1 + i % 7)] for i in range(80)
    ]
    started = [r for r in caplog.records if r.message == "parsing_processes_started"]
    assert len(started) == (1 if n_processes else 0)


def test_processes_need_no_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one whose path is short enough for a socket, nor one at all."""
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.delitem(process.current_process()._config, "tempdir", raising=False)  # type: ignore[attr-defined]

    assert [_dense(result) for result in _parse([b"1,2\n", b"3,4\n"])] == [[[1, 2]], [[3, 4]]]
    assert list(directory.iterdir()) == []


def test_faults_are_reported_in_order() -> None:
    """Each has its line and column, and later chunks are read."""
    results = _parse([b"1,2\n", b"1,2\n", b"1,2\n1,x\n", b"1,3\n"])

    fault = results[2]
    assert isinstance(fault, MalformedPayloadError)
    assert (fault.line, fault.record, fault.column) == (2, None, 2)
    assert fault.problem.startswith("the cell is text")
    assert _dense(results[3]) == [[1, 3]]


def test_every_chunk_must_be_as_wide_as_the_first() -> None:
    """Also where a chunk agrees with itself, or goes on as it should."""
    results = _parse([b"1,2\n", b"1,2,3\n1,2\n", b"1,2,3\n1,2,3\n"])

    for fault in results[1:]:
        assert isinstance(fault, MalformedPayloadError)
        assert fault.line == 1
        assert fault.problem.startswith(
            "the line has 3 columns where 2 are expected: a label, 1 fea"
        )


def test_sparse_records_come_whole() -> None:
    """All their arrays, of different types and lengths."""
    texts = [b"1 0:1.5 7:2\n0:0.5 3:4\n"] * 3

    for result in _parse(texts, content_types.LIBSVM)[1:]:
        assert isinstance(result, Batch)
        rows = result.features
        assert isinstance(rows, SparseRows)
        assert (rows.offsets.tolist(), rows.columns.tolist()) == ([0, 2, 3], [0, 7, 3])
        assert rows.values.tolist() == [1.5, 2, 4]
        assert result.weights is not None
        assert result.weights.tolist() == [1, 0.5]


def test_chunk_or_result_larger_than_the_shared_memory_comes_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line of very many columns, and numbers that are longer in memory than in text."""
    # The processes have the constant of the module, so that both ways are taken.
    wide = b",".join([b"1"] * (parallel_parser._SLOT_BYTES // 2 + 1000)) + b"\n"
    assert len(wide) > parallel_parser._SLOT_BYTES
    gaps = b"1" + b"," * wide.count(b",") + b"\n"
    assert len(gaps) < parallel_parser._SLOT_BYTES

    results = _parse([wide, gaps, wide, gaps])

    widths = [result.n_features for result in results if isinstance(result, Batch)]
    assert widths == [wide.count(b",")] * 4


def test_results_are_not_overwritten_by_later_ones() -> None:
    """The shared memory is used again and again; what was handed out is not."""
    texts = [b"%d,%d\n" % (i, i) for i in range(30)]

    assert [_dense(result) for result in _parse(texts)] == [[[i, i]] for i in range(30)]


def test_reading_that_is_broken_off_ends_the_processes() -> None:
    """No process is left running."""
    reading = parse(_chunks([b"1,2\n"] * 100), content_types.CSV, COLUMNS, n_processes=2)
    for _ in range(10):
        next(reading)
    children = _parsers()
    assert len(children) == 2

    reading.close()

    assert not set(children) & set(_parsers())


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (signal.SIGKILL, PlatformError, "killed by SIGKILL, probably for the memory"),
        (signal.SIGSEGV, PlatformError, "killed by SIGSEGV"),
    ],
)
def test_process_that_dies_is_an_error(number: int, kind: type[Exception], message: str) -> None:
    """The job does not hang, and the error names the likely cause."""
    reading = parse(_chunks([b"1,2\n"] * 100), content_types.CSV, COLUMNS, n_processes=2)
    for _ in range(10):
        next(reading)
    for process_id in _parsers():
        os.kill(process_id, number)

    with pytest.raises(kind, match=message):
        list(reading)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_leave_signals_to_the_job(number: int) -> None:
    """A terminal or a supervisor may send them to the whole group; the job decides."""
    reading = parse(_chunks([b"1,2\n"] * 100), content_types.CSV, COLUMNS, n_processes=2)
    n_read = len([next(reading) for _ in range(10)])

    for process_id in _parsers():
        os.kill(process_id, number)

    assert n_read + len(list(reading)) == 100


def test_process_that_fails_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A bug of the container ends the job, with its traceback in the log."""
    process = parallel_parser._Process("text/unheard-of", COLUMNS)

    with pytest.raises(AlgorithmError, match="a parsing process ended with status 1"):
        process._receive()
    process.close()

    assert "UnsupportedContentTypeError" in capfd.readouterr().err


def _parsers() -> list[int]:
    """The children of this process that parse."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as line:
                    parent = int(stat.read().rpartition(") ")[2].split()[1])
                    if parent == os.getpid() and "spawn_main" in line.read():
                        found.append(int(entry))
            except OSError:
                continue
    return found
