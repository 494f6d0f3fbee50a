"""One training run seen from outside: time, CPU time, memory, and its log lines."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import process_tree
from benchmarks.harness.servers import ROOT
from local_test.ml_tree import MlTree

HYPERPARAMETERS = {
    "num_round": "10",
    "max_depth": "6",
    "eta": "0.3",
    "objective": "binary:logistic",
    "tree_method": "hist",
}
OURS = "ours"
_SAMPLE_SECONDS = 0.05
_TIMEOUT_SECONDS = 3600.0
CSV_LOADERS = Path(__file__).parent / "csv_loaders.py"


class RunError(Exception):
    """A subject did not train."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, by the clock and of CPU time of all processes."""

    wall: float
    cpu: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


@dataclass(frozen=True, slots=True)
class Data:
    """CSV file that the runs train on.

    Args:
        size_gb: As it was asked for; the file is up to a block of records (5 MB) larger.
    """

    size_gb: float
    csv_file: Path


@dataclass(frozen=True, slots=True)
class Run:
    """Cost of one run; bytes are resident, summed over all processes."""

    subject: str
    size_gb: float  # of CSV, as asked for
    n_bytes: int  # of CSV
    peak_memory: int
    loaded: Cost  # until the values are where the trainer reads them, imports left out
    first_tree: Cost  # so quantised as well, imports left out
    job: Cost  # all of it


def train(subject: str, data: Data, model_file: Path, python: Path) -> Run:
    """Train in a process of its own, and leave the model in `model_file`.

    Args:
        python: The interpreter of the peers' environment.
    Raises:
        RunError: with the last lines that it wrote.
    """
    if subject == OURS:
        return _train_ours(data, model_file)
    arguments = [str(data.csv_file), str(model_file), json.dumps(HYPERPARAMETERS)]
    done = _measure([str(python), str(CSV_LOADERS), subject, *arguments], os.environ)
    return done.run(subject, data, "@begin", "@loaded", "@first_round")


def _train_ours(data: Data, model_file: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=data.csv_file.parent) as directory:
        ml = MlTree(Path(directory)).create()
        ml.write_hyperparameters(HYPERPARAMETERS)
        ml.write_channel("train", {})  # no content type: when it is recognised, reading begins
        (ml.channel_dir("train") / "train.csv").symlink_to(data.csv_file)
        environment = os.environ | {"SAGEMAKER_BASE_DIR": directory, "PYTHONPATH": str(ROOT)}
        done = _measure([sys.executable, "-m", "container", "train"], environment)
        (ml.model_dir / "xgboost-model").rename(model_file)
    return done.run(OURS, data, '"content_type_recognised"', '"channel_loaded"', "[0]\ttrain-")


@dataclass(frozen=True, slots=True)
class _Done:
    lines: Sequence[tuple[Cost, str]]  # what it wrote, and the cost so far
    job: Cost
    peak_memory: int

    def at(self, text: str) -> Cost:
        """Return the cost at the first output line that contains the text."""
        return next(cost for cost, line in self.lines if text in line)

    def run(self, subject: str, data: Data, begun: str, loaded: str, first_tree: str) -> Run:
        return Run(
            subject=subject,
            size_gb=data.size_gb,
            n_bytes=data.csv_file.stat().st_size,
            peak_memory=self.peak_memory,
            loaded=self.at(loaded) - self.at(begun),
            first_tree=self.at(first_tree) - self.at(begun),
            job=self.job,
        )


def _measure(command: Sequence[str], environment: Mapping[str, str]) -> _Done:
    """Run a command in a session of its own; nothing of it is left, whatever happens."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        text=True,
        start_new_session=True,
    )
    peak = _Peak(process.pid)
    watchdog = threading.Timer(_TIMEOUT_SECONDS, _kill_group, [process.pid])
    watchdog.daemon = True
    watchdog.start()
    try:
        lines = _read(process, began)
        # Not waited for yet: until then its number cannot become another's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.monotonic() - began
    finally:
        watchdog.cancel()
        watchdog.join()
        _kill_group(process.pid)
        peak.stop()
        # Its own CPU time and that of the processes that it waited for; `Popen.wait` gives none.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    job = Cost(wall, usage.ru_utime + usage.ru_stime)
    if process.returncode:
        said = "".join(line for _, line in lines[-10:])
        raise RunError(f"{command}: status {process.returncode}: {said}")
    return _Done(lines, job, peak.n_bytes)


def _read(process: "subprocess.Popen[str]", began: float) -> list[tuple[Cost, str]]:
    """Lines until all its processes have closed their output, with the cost so far at each."""
    lines: list[tuple[Cost, str]] = []
    if process.stdout is not None:  # it is a pipe
        with process.stdout:
            for line in process.stdout:
                cpu = process_tree.cpu_seconds(process.pid)
                lines.append((Cost(time.monotonic() - began, cpu), line))
    return lines


def _kill_group(process_id: int) -> None:
    """Kill a process and all that it has started, as far as they are still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


class _Peak(threading.Thread):
    """The most memory that all processes of a session have had together.

    Resident pages of all of them are summed, so that what several share counts several times.
    """

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.n_bytes = 0
        self._session = session
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            processes = list(process_tree.processes_of(self._session))
            self.n_bytes = max(self.n_bytes, sum(_resident(each.pid) for each in processes))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _resident(process_id: int) -> int:
    try:
        pages = (process_tree.PROC / str(process_id) / "statm").read_text().split()[1]
    except OSError:  # ended since the listing
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
