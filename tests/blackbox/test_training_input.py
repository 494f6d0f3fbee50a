"""Sources of training data: FIFOs, compressed and linked files, Parquet, RecordIO, and files too
large for the memory.

The model of every way must be the one of plain files, byte for byte.
"""

import gzip
import io
import json
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend, DockerBackend
from local_test.datasets import TabularDataset
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from tests.waiting import PATIENCE_SECONDS

HYPERPARAMETERS = {"objective": "binary:logistic", "num_round": "5", "nthread": "1"}

Train = Callable[..., FinishedRun]


@pytest.fixture(scope="session")
def reference(
    backend: Backend, cancer: TabularDataset, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """The model of one plain file a channel."""
    ml = _tree(tmp_path_factory.mktemp("reference") / "ml")
    ml.write_channel("train", {"train.csv": cancer.train})
    ml.write_channel("validation", {"validation.csv": cancer.validation})
    run = backend.run_training(ml, timeout_seconds=120)
    assert run.exit_code == 0, run.output
    return _model(ml)


@pytest.fixture
def ml(tmp_path: Path) -> MlTree:
    """A tree without channels."""
    return _tree(tmp_path / "ml")


def _tree(root: Path) -> MlTree:
    ml = MlTree(root).create()
    ml.write_hyperparameters(HYPERPARAMETERS)
    return ml


def _model(ml: MlTree) -> bytes:
    return (ml.model_dir / "xgboost-model").read_bytes()


def _events(run: FinishedRun, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


class Feeder:
    """Plays the platform in Pipe mode: one FIFO an epoch, each filled with all of the channel."""

    def __init__(self, ml: MlTree) -> None:
        self._ml = ml
        self._threads: list[threading.Thread] = []
        self.was_cut_off = False

    def declare(self, channel: str, content_type: str | None = None) -> Path:
        """Add a channel in Pipe mode, and say where its first FIFO must be."""
        self._ml.write_channel(channel, {}, input_mode="Pipe", content_type=content_type).rmdir()
        return self._ml.data_dir / f"{channel}_0"

    def fill(self, fifo: Path, content: bytes) -> None:
        """Make a FIFO and write to it in a thread."""
        os.mkfifo(fifo)
        thread = threading.Thread(target=self._write, args=(fifo, content), daemon=True)
        thread.start()
        self._threads.append(thread)

    def feed(self, channel: str, content: bytes, *, content_type: str | None = None) -> None:
        """Both."""
        self.fill(self.declare(channel, content_type), content)

    def join(self) -> None:
        """Wait until everything is written."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _write(self, fifo: Path, content: bytes) -> None:
        try:
            fifo.write_bytes(content)
        except BrokenPipeError:
            self.was_cut_off = True


@contextmanager
def feeding(ml: MlTree) -> Iterator[Feeder]:
    feeder = Feeder(ml)
    yield feeder
    feeder.join()


@pytest.mark.canary
def test_pipe_mode_gives_the_model_of_file_mode(
    backend: Backend, ml: MlTree, cancer: TabularDataset, reference: bytes
) -> None:
    """One FIFO a channel, read to its end; no second epoch is asked for (C-019)."""
    with feeding(ml) as feeder:
        feeder.feed("train", cancer.train)
        feeder.feed("validation", cancer.validation, content_type="text/csv")
        run = backend.run_training(ml, timeout_seconds=120)

    assert run.exit_code == 0, run.output
    assert _model(ml) == reference
    assert not feeder.was_cut_off
    assert {event["channel"]: event["n_rows"] for event in _events(run, "channel_loaded")} == {
        "train": cancer.train.count(b"\n"),
        "validation": cancer.validation.count(b"\n"),
    }


def test_fifo_that_comes_late_is_waited_for(
    backend: Backend, ml: MlTree, cancer: TabularDataset, reference: bytes
) -> None:
    """Waits for a FIFO that appears after the job has logged the wait (C-020)."""
    with feeding(ml) as feeder:
        train = feeder.declare("train")
        validation = feeder.declare("validation")
        with backend.start_training(ml) as job:
            job.wait_for_output('"pipe": "train_0", "state": "does not exist"')
            feeder.fill(train, cancer.train)
            job.wait_for_output('"pipe": "validation_0", "state": "does not exist"')
            feeder.fill(validation, cancer.validation)
            run = job.finish(timeout_seconds=120)

    assert run.exit_code == 0, run.output
    assert _model(ml) == reference


def test_fifo_left_early_is_no_failure_of_its_own(backend: Backend, ml: MlTree) -> None:
    """A record that cannot be read ends the job, named by its FIFO; the writer is let go
    (C-020).
    """
    lines = b"1,2\n0,3\n"
    with feeding(ml) as feeder:
        feeder.feed("train", lines * 1000 + b"1,oops\n" + lines * 1_000_000)
        run = backend.run_training(ml, timeout_seconds=120)

    assert run.exit_code == 1
    assert feeder.was_cut_off
    reason = ml.failure_reason() or ""
    assert "channel 'train', FIFO 'train_0': line 2001, column 2: the cell is text;" in reason


def test_empty_fifo_is_no_success(backend: Backend, ml: MlTree) -> None:
    """A platform that sends nothing (C-027)."""
    with feeding(ml) as feeder:
        feeder.feed("train", b"")
        run = backend.run_training(ml, timeout_seconds=120)

    assert run.exit_code == 1
    assert "channel 'train' holds no records" in (ml.failure_reason() or "")


def test_wrapped_records_are_refused_at_once(backend: Backend, ml: MlTree) -> None:
    """Unsupported forms of Pipe mode fail before the job waits for a FIFO (C-021)."""
    config = {"train": {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO"}}
    ml.input_data_config_file.write_text(json.dumps(config))

    assert backend.run_training(ml, timeout_seconds=60).exit_code == 1
    assert "RecordWrapperType 'RecordIO' is not supported" in (ml.failure_reason() or "")


def test_parts_may_be_compressed_nested_and_linked(
    backend: Backend, ml: MlTree, cancer: TabularDataset, reference: bytes
) -> None:
    """Gzip by content, folders at any depth, links that lead back; foreign files (C-016)."""
    lines = cancer.train.splitlines(keepends=True)
    directory = ml.write_channel(
        "train",
        {
            "a/part-0": gzip.compress(b"".join(lines[:100])),
            "a/b/c/d/part-1.csv": b"".join(lines[100:200]),
            "e/part-2.csv.gz": gzip.compress(b"".join(lines[200:])),
            "_SUCCESS": b"",
            "a/.part-0.crc": b"crc",
        },
        input_mode="FastFile",
    )
    ml.write_channel("validation", {"v.csv": cancer.validation})
    os.symlink("..", directory / "a" / "up")
    os.symlink("../..", directory / "beside")  # where the other channel lies
    os.symlink(".", directory / "loop")

    run = backend.run_training(ml, timeout_seconds=120)

    assert run.exit_code == 0, run.output
    assert _model(ml) == reference


@pytest.mark.canary
@pytest.mark.docker_cases(2)
@pytest.mark.parametrize("input_mode", ["File", "Pipe"])
@pytest.mark.parametrize("name", ["parquet", "recordio"])
def test_binary_formats_give_the_model_of_csv(
    backend: Backend,
    ml: MlTree,
    cancer: TabularDataset,
    reference: bytes,
    name: str,
    input_mode: str,
) -> None:
    """Two objects a channel; in Pipe mode nothing but the format parts them (C-016, C-019)."""
    write, content_type = {
        "parquet": (_as_parquet, "application/x-parquet"),
        "recordio": (_as_recordio, "application/x-recordio-protobuf"),
    }[name]
    channels = {"train": cancer.train, "validation": cancer.validation}
    with feeding(ml) as feeder:
        for channel, text in channels.items():
            rows = [list(map(float, line.split(b","))) for line in text.split()]
            parts = [write(rows[:50]), write(rows[50:])]
            if input_mode == "Pipe":
                feeder.feed(channel, b"".join(parts), content_type=content_type)
            else:
                files = {f"part-{i}": part for i, part in enumerate(parts)}
                ml.write_channel(channel, files)  # recognised by its first bytes
        run = backend.run_training(ml, timeout_seconds=120)

    assert run.exit_code == 0, run.output
    model = xgboost.Booster(model_file=bytearray(_model(ml)))
    assert (model.feature_names is not None) == (name == "parquet")
    model.feature_names = None
    # Both written by the XGBoost of this process: the image's has another version.
    expected = xgboost.Booster(model_file=bytearray(reference))
    assert model.save_raw(raw_format="ubj") == expected.save_raw(raw_format="ubj")


def _as_parquet(rows: Sequence[Sequence[float]]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    columns = {f"c{index}": column for index, column in enumerate(zip(*rows, strict=True))}
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _as_recordio(rows: Sequence[Sequence[float]]) -> bytes:
    """Frames of protobuf records, written by hand from the published message.

    Record: map 1 `features` and map 2 `label` of Value; Value: 2 float32 tensor; tensor: packed
    floats 1. Source: SageMaker developer guide, "Common Data Formats for Training".
    """

    def field(number: int, content: bytes) -> bytes:
        length, varint = len(content), bytearray()
        while True:
            varint.append(length & 0x7F | (0x80 if length > 0x7F else 0))
            length >>= 7
            if not length:
                return bytes([number << 3 | 2]) + bytes(varint) + content

    def entry(number: int, values: Sequence[float]) -> bytes:
        tensor = field(1, struct.pack(f"<{len(values)}f", *values))
        return field(number, field(1, b"values") + field(2, field(2, tensor)))

    frames = []
    for label, *features in rows:
        record = entry(1, features) + entry(2, [label])
        header = struct.pack("<II", 0xCED7230A, len(record))
        frames.append(header + record + bytes(-len(record) % 4))
    return b"".join(frames)


@pytest.mark.slow
@pytest.mark.docker
def test_file_larger_than_the_memory_is_trained_on(image: str, ml: MlTree) -> None:
    """270 MB in a container of 256 MB: parsed in pieces, kept on disk, trained there (C-039).

    What is written to a tmpfs would be memory, so the disk is the one at /opt/ml.
    """
    content = _large_csv(270_000_000)
    ml.write_hyperparameters({"num_round": "2", "objective": "binary:logistic", "max_depth": "3"})
    file = ml.write_channel("train", {}, content_type="text/csv") / "large.csv"
    with file.open("wb") as stream:
        for block in content:
            stream.write(block)
    limits = ("--memory", "256m", "--memory-swap", "256m", "--read-only", "--tmpfs", "/tmp")

    run = DockerBackend(image, limits).run_training(ml, timeout_seconds=300)

    assert run.exit_code == 0, run.output
    (loaded,) = _events(run, "channel_loaded")
    assert loaded["mb"] > 256  # type: ignore[operator]
    assert loaded["kept_on_disk_mb"] > 0  # type: ignore[operator]
    assert _events(run, "memory_does_not_suffice")
    (scratch,) = _events(run, "scratch_directory_made")
    assert str(scratch["directory"]).startswith("/opt/ml/")
    assert not list(ml.root.rglob("byoa-scratch-*"))
    errors = [float(value) for value in re.findall(r"train-logloss:(\S+)", run.output)]
    assert len(errors) == 2
    assert errors[1] < errors[0] < 0.69


def _large_csv(n_bytes: int) -> Iterator[bytes]:
    """Records of 28 columns in blocks that repeat with other labels for what is noise."""
    rng = np.random.default_rng(1)
    blocks = []
    for _ in range(8):
        features = rng.normal(size=(4000, 28)).round(4)
        rows = np.column_stack([(features[:, 0] > 0).astype(int), features])
        blocks.append(
            "".join(f"{row[0]:g},{','.join(map(str, row[1:].tolist()))}\n" for row in rows).encode()
        )
    written = 0
    while written < n_bytes:
        for block in blocks:
            yield block
            written += len(block)
