"""One training run from outside: how long, how much CPU, how much memory, and its own marks."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import process_tree
from benchmarks.servers import ROOT
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
_PEERS = Path(__file__).parent / "training_peers.py"


class RunError(Exception):
    """A subject did not train."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took. Seconds; bytes are resident, summed over all processes."""

    subject: str
    n_bytes: int  # of CSV
    wall: float
    cpu: float
    peak_memory: int
    loaded: float  # until the values are where the trainer reads them, imports left out
    first_round: float  # until the first tree, so quantised as well


def train(subject: str, csv_file: Path, model_file: Path, python: Path) -> Run:
    """Train in a process of its own, and leave the model in `model_file`.

    Args:
        python: The interpreter of the peers' environment.
    Raises:
        RunError: with the last lines that it wrote.
    """
    if subject == OURS:
        return _train_ours(csv_file, model_file)
    arguments = [str(csv_file), str(model_file), json.dumps(HYPERPARAMETERS)]
    done = _measure([str(python), str(_PEERS), subject, *arguments], os.environ)
    began = done.time_of("@begin")
    return done.run(
        subject, csv_file, done.time_of("@loaded") - began, done.time_of("@first_round") - began
    )


def _train_ours(csv_file: Path, model_file: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=csv_file.parent) as directory:
        ml = MlTree(Path(directory)).create()
        ml.write_hyperparameters(HYPERPARAMETERS)
        ml.write_channel("train", {}, content_type="text/csv")
        (ml.channel_dir("train") / "train.csv").symlink_to(csv_file)
        environment = os.environ | {"SAGEMAKER_BASE_DIR": directory, "PYTHONPATH": str(ROOT)}
        done = _measure([sys.executable, "-m", "container", "train"], environment)
        (ml.model_dir / "xgboost-model").rename(model_file)
    (event,) = (json.loads(line) for _, line in done.lines if '"channel_loaded"' in line)
    began = done.time_of('"channel_loaded"') - event["duration_seconds"]
    return done.run(OURS, csv_file, event["duration_seconds"], done.time_of("[0]\t") - began)


@dataclass(frozen=True, slots=True)
class _Done:
    lines: Sequence[tuple[float, str]]  # what it wrote, and when
    wall: float
    cpu: float
    peak_memory: int

    def time_of(self, text: str) -> float:
        """When the first line with this text came."""
        return next(seconds for seconds, line in self.lines if text in line)

    def run(self, subject: str, csv_file: Path, loaded: float, first_round: float) -> Run:
        return Run(
            subject=subject,
            n_bytes=csv_file.stat().st_size,
            wall=self.wall,
            cpu=self.cpu,
            peak_memory=self.peak_memory,
            loaded=loaded,
            first_round=first_round,
        )


def _measure(command: Sequence[str], environment: Mapping[str, str]) -> _Done:
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        text=True,
        start_new_session=True,
    )
    lines: list[tuple[float, str]] = []
    peak = _Peak(process.pid)
    watchdog = threading.Timer(_TIMEOUT_SECONDS, process.kill)
    watchdog.start()
    if process.stdout is not None:  # it is a pipe
        with process.stdout:
            lines.extend((time.monotonic(), line) for line in process.stdout)
    # Its own CPU time and that of the processes that it waited for; `Popen.wait` gives none.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    watchdog.cancel()
    peak.stop()
    if process.returncode:
        raise RunError(f"{command}: status {process.returncode}: {lines[-10:]}")
    return _Done(lines, wall, usage.ru_utime + usage.ru_stime, peak.n_bytes)


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
