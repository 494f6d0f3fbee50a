"""The launcher, with fakes of multi-model-server that have its faults."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.mms.in_flight import InFlight
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).parents[4]

# A process of its own: the launcher waits for whatever children its process has.
LAUNCHER = """
import sys
from pathlib import Path
from serve.mms import launcher
from serve.mms.configuration import Command
from serve.mms.in_flight import InFlight

command = Command(sys.executable, (sys.executable, "-c", sys.argv[1]), {"DIR": sys.argv[2]})
status = launcher.supervise(command, InFlight(Path(sys.argv[2])))
print("status", status, flush=True)
"""

# Ends at once on SIGTERM and leaves two workers behind, one of which ignores it.
SERVER = """
import json, os, pathlib, signal, subprocess, sys, time
worker = "import signal, time; signal.signal(signal.SIGTERM, {}); time.sleep(60)"
workers = [subprocess.Popen([sys.executable, "-c", worker.format(reaction)])
           for reaction in ("signal.SIG_DFL", "signal.SIG_IGN")]
pids = [os.getpid(), *(worker.pid for worker in workers)]
file = pathlib.Path(os.environ["DIR"], "pids")
file.with_suffix(".new").write_text(json.dumps(pids))
file.with_suffix(".new").rename(file)
time.sleep(60)
"""


@dataclass
class Launched:
    process: "subprocess.Popen[str]"
    directory: Path

    def process_ids(self) -> list[int]:
        file = self.directory / "pids"
        _wait_for(file.exists)
        found: list[int] = json.loads(file.read_text())
        return found

    def finish(self) -> str:
        return self.process.communicate(timeout=20)[0]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator["Launch"]:
    launch = Launch(tmp_path)
    yield launch
    for process in launch.processes:
        process.kill()
        process.communicate()


class Launch:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, server: str) -> Launched:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, server, str(self.directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return Launched(process, self.directory)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_there(process_id: int) -> bool:
    return Path(f"/proc/{process_id}").exists()


def test_sigterm_leaves_no_orphan(launch: Launch) -> None:
    """Ends workers that the server leaves, one that ignores SIGTERM too (C-062)."""
    launched = launch(SERVER)
    process_ids = launched.process_ids()
    assert all(map(_is_there, process_ids))

    launched.process.send_signal(signal.SIGTERM)

    assert launched.finish() == "status None\n"
    assert launched.process.returncode == 0
    _wait_for(lambda: not any(map(_is_there, process_ids)))


def test_server_that_ends_by_itself_is_an_end_with_its_status(launch: Launch) -> None:
    """Ends with the server, and leaves no orphan (C-063)."""
    launched = launch(SERVER)
    process_ids = launched.process_ids()

    os.kill(process_ids[0], signal.SIGKILL)

    assert launched.finish() == "status 137\n"
    _wait_for(lambda: not any(map(_is_there, process_ids)))


def test_exit_status_of_the_server_is_returned(launch: Launch) -> None:
    """Returns the exit status; the log has the server's output."""
    assert launch("raise SystemExit(3)").finish() == "status 3\n"


def test_server_is_not_stopped_while_something_is_in_flight(launch: Launch) -> None:
    """Finishes requests in flight, then ends the server (C-062)."""
    launched = launch(SERVER)
    process_ids = launched.process_ids()
    with closing(InFlight(launched.directory)) as in_flight, in_flight.answering():
        launched.process.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert all(map(_is_there, process_ids))
        released_at = time.monotonic()

    launched.finish()

    assert 0.9 < time.monotonic() - released_at < 10


def test_signals_of_the_server_are_as_new(launch: Launch) -> None:
    """Starts the server with no signal blocked or ignored."""
    status = 'open("/proc/self/status").read()'
    server = f"import re; print(*re.findall('Sig(?:Blk|Ign):\\t(.*)', {status}), flush=True)"

    blocked, ignored = launch(server).finish().splitlines()[0].split()

    assert int(blocked, 16) == 0
    assert not int(ignored, 16) & 1 << (signal.SIGTERM - 1)


def test_in_flight_is_seen_from_another_process_and_ends_with_it(tmp_path: Path) -> None:
    """Releases the lock of a worker that is killed while it answers."""
    worker = (
        "import sys, time; from pathlib import Path; from serve.mms.in_flight import InFlight\n"
        "with InFlight(Path(sys.argv[1])).answering(): print(flush=True); time.sleep(60)"
    )
    with (
        closing(InFlight(tmp_path)) as in_flight,
        subprocess.Popen(
            [sys.executable, "-c", worker, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        ) as process,
    ):
        assert not in_flight.is_any()
        assert process.stdout is not None
        process.stdout.readline()
        assert in_flight.is_any()
        process.kill()
        process.wait()
        assert not in_flight.is_any()
