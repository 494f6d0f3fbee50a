"""FIFOs: waiting for them, reading them, leaving them."""

import io
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from container.errors import ChannelError
from tests.waiting import PATIENCE_SECONDS
from train.input import pipes
from train.input.pipes import open_pipe


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "train_0"
    os.mkfifo(path)
    return path


def test_pipe_gives_what_is_written(fifo: Path) -> None:
    """More than a FIFO holds, to its end (C-019)."""
    content = os.urandom(3_000_000)
    writer = _in_thread(lambda: fifo.write_bytes(content))

    with io.BufferedReader(open_pipe(fifo, channel="train")) as pipe:
        assert pipe.read() == content
    writer.join()


def test_pipe_that_comes_late_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """First there is no FIFO, then no writer, and the log says so (C-020)."""
    path = tmp_path / "train_0"

    def come_late() -> None:
        time.sleep(0.3)
        os.mkfifo(path)
        time.sleep(0.3)
        path.write_bytes(b"1,2\n")

    writer = _in_thread(come_late)
    with caplog.at_level(logging.INFO), open_pipe(path, channel="train") as pipe:
        assert pipe.read() == b"1,2\n"
    writer.join()

    assert [record.message for record in caplog.records] == ["pipe_waited_for"]


def test_pipe_without_content_is_at_its_end(fifo: Path) -> None:
    """A writer that has closed the FIFO is not waited for."""
    writer = _in_thread(lambda: os.close(os.open(fifo, os.O_WRONLY)))

    with open_pipe(fifo, channel="train", wait_seconds=5) as pipe:
        assert pipe.read() == b""
    writer.join()


def test_pipe_closed_early_ends_its_writer(fifo: Path) -> None:
    """The platform allows it, and the writer gets an error (C-020)."""
    problems = []

    def write() -> None:
        try:
            fifo.write_bytes(bytes(10_000_000))
        except BrokenPipeError as error:
            problems.append(error)

    writer = _in_thread(write)
    with open_pipe(fifo, channel="train") as pipe:
        pipe.read(10)
    writer.join(PATIENCE_SECONDS)

    assert len(problems) == 1


@pytest.mark.parametrize(("exists", "state"), [(False, "does not exist"), (True, "has no writer")])
def test_pipe_that_never_comes_is_an_error(tmp_path: Path, *, exists: bool, state: str) -> None:
    """The wait is bounded, and the message names the channel, the FIFO and what is missing."""
    if exists:
        os.mkfifo(tmp_path / "train_0")

    with pytest.raises(ChannelError, match=rf"'train': the FIFO input/data/train_0 {state}"):
        open_pipe(tmp_path / "train_0", channel="train", wait_seconds=0.05)


def test_pipe_that_is_silent_is_logged(
    fifo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning is logged while the platform stalls."""
    monkeypatch.setattr(pipes, "_LOG_SECONDS", 0.05)

    def write() -> None:
        with fifo.open("wb", buffering=0) as stream:
            stream.write(b"1")
            time.sleep(0.2)
            stream.write(b"2")

    writer = _in_thread(write)
    with open_pipe(fifo, channel="train") as pipe:
        assert pipe.read() == b"12"
    writer.join()

    assert "pipe_is_silent" in [record.message for record in caplog.records]
