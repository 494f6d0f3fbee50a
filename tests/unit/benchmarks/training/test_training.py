"""The training benchmark: its data, its measuring of a process, its report."""

import signal
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training import __main__ as training
from benchmarks.training import datasets, training_report
from benchmarks.training.job_runs import Cost, Run
from benchmarks.training.training_report import Likeness
from local_test.outcomes import BackendError

RUN = Run(
    subject="ours",
    size_gb=1.0,
    n_bytes=1_000_000_123,
    peak_memory=900_000_000,
    loaded=Cost(2.0, 3.0),
    first_tree=Cost(6.0, 7.0),
    job=Cost(10.0, 12.0),
)
FACTS = {"cpus": 2, "cpu": "a CPU", "python": "3.11"}


def _runs(*, loaded: float, peak_memory: int) -> list[Run]:
    """Ours as above, and pandas with these."""
    pandas = replace(RUN, subject="pandas", loaded=Cost(loaded, loaded), peak_memory=peak_memory)
    return [RUN, RUN, replace(RUN, loaded=Cost(90.0, 90.0)), pandas]


def test_data_are_the_same_for_the_same_size(tmp_path: Path) -> None:
    """Label first, 28 features, no header, at least as large as asked, and something to learn."""
    for name in ("a.csv", "b.csv"):
        datasets.write(tmp_path / name, 1_000_000)

    content = (tmp_path / "a.csv").read_bytes()
    assert content == (tmp_path / "b.csv").read_bytes()
    assert len(content) >= 1_000_000
    rows = np.loadtxt(tmp_path / "a.csv", delimiter=",", max_rows=1000)
    assert rows.shape == (1000, 29)
    assert set(rows[:, 0]) == {0, 1}
    signal = rows[:, 1] + rows[:, 2] * rows[:, 3]
    assert ((signal > 0) == rows[:, 0]).mean() > 0.7


def test_data_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    """Making 3 GB takes minutes."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"x" * 100)

    datasets.write(file, 100)

    assert file.read_bytes() == b"x" * 100


def test_warming_the_page_cache_needs_little_memory(tmp_path: Path) -> None:
    """A harness that held 3 GB would take from the subjects what it measures."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"x" * 20_000_000)

    tracemalloc.start()
    try:
        datasets.warm_page_cache(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2_000_000


@pytest.fixture
def _own_sigterm() -> Iterator[None]:
    """The handler of this process, which the command replaces, put back."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("_own_sigterm")
@pytest.mark.parametrize(
    ("problem", "code", "message"),
    [
        (BackendError("no engine answers"), 1, "bench-train: no engine answers\n"),
        (KeyboardInterrupt(), 130, "\nbench-train: interrupted; every process was stopped\n"),
    ],
)
def test_main_says_in_a_line_why_it_ends(
    problem: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without Docker, and after Ctrl-C."""

    def fail(*_: object) -> int:
        raise problem

    monkeypatch.setattr(training, "_train_beyond_memory", fail)

    assert training.main(["--image", "byoa"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.usefixtures("_own_sigterm")
def test_main_leaves_every_block_after_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so stops what it has started; 143 as a shell would say."""
    left = []

    def terminated(*_: object) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
            return 0
        finally:
            left.append(True)

    monkeypatch.setattr(training, "_train_beyond_memory", terminated)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that this fails rather than kills pytest

    with pytest.raises(SystemExit) as ended:
        training.main(["--image", "byoa"])

    assert ended.value.code == 143
    assert left


def test_report_has_medians_and_likeness() -> None:
    """One odd run of three changes nothing."""
    likenesses = {1.0: [Likeness("ours", logloss=0.5, mean_difference=0.0012)]}

    text = training_report.render(_runs(loaded=8.0, peak_memory=2 * 10**9), likenesses, FACTS)

    assert "### 1 GB of CSV" in text
    row = "2.0 (3.0) | 6.0 (7.0) | 10.0 (12.0) | 900 | 0.50000 | 0.00120 |"
    assert f"| this container | {row}" in text
    row = "8.0 (8.0) | 6.0 (7.0) | 10.0 (12.0) | 2,000 |"
    assert f"| pandas.read_csv, DMatrix, train | {row}" in text


def test_report_keeps_sizes_apart_that_are_nearly_the_same() -> None:
    """Each with its own runs and its own models."""
    runs = [
        replace(RUN, size_gb=0.21, n_bytes=210_000_100),
        replace(RUN, size_gb=0.24, n_bytes=240_000_100, peak_memory=500_000_000),
    ]
    likenesses = {0.24: [Likeness("ours", logloss=0.5, mean_difference=0.0012)]}

    text = training_report.render(runs, likenesses, FACTS)

    smaller, larger = text.split("### 0.24 GB of CSV")
    assert "### 0.21 GB of CSV" in smaller
    assert "| 900 |  |  |" in smaller
    assert "| 500 | 0.50000 | 0.00120 |" in larger


@pytest.mark.parametrize(
    ("loaded", "peak_memory", "verdicts"),
    [(6.0, 1_800_000_000, ["met", "met"]), (5.9, 1_790_000_000, ["MISSED", "MISSED"])],
)
def test_targets_are_judged(loaded: float, peak_memory: int, verdicts: list[str]) -> None:
    """Loading three times as fast as pandas, in half its memory at 1 GB."""
    found = training_report.targets(_runs(loaded=loaded, peak_memory=peak_memory))

    assert [line.rpartition(": ")[2].rstrip(")") for line in found] == verdicts


def test_each_repetition_begins_with_another_subject() -> None:
    """So that nobody is always the first."""
    assert [training._turn(["a", "b", "c"], i) for i in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
