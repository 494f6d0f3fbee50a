"""A server while it is measured: started until its first right answer, asked, watched, stopped."""

import contextlib
import http.client
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import process_tree
from benchmarks.harness.model_files import Questions
from benchmarks.harness.process_tree import Footprint
from benchmarks.harness.servers import Server, launch
from local_test import invoke
from local_test.host_process import LOOPBACK, HostProcess, reserve_port
from local_test.outcomes import PortInUseError
from local_test.programs import RunningProgram

START_TIMEOUT_SECONDS = 60.0
STOP_GRACE_SECONDS = 5.0
# Below those that the kernel gives to clients, and multi-model-server refuses more than 32767.
_PORTS = range(21000, 22000)
_POLL_SECONDS = 0.005
_FIRST_ANSWER_TIMEOUT_SECONDS = 5.0
_ANSWER_TIMEOUT_SECONDS = 30.0
_QUIET_CPUS = 0.05
_QUIET_WINDOW_SECONDS = 0.1
_QUIET_TIMEOUT_SECONDS = 10.0


# What a request raises when nobody listens, the connection breaks or no HTTP comes.
NO_ANSWER = (OSError, http.client.HTTPException)


class ServerError(Exception):
    """A server did not start, or does not answer as it should."""


def exit_at_sigterm() -> None:
    """Exit with 143 at SIGTERM by leaving every block, which stops what was started in it.

    By default the signal ends Python at once, and a server in a session of its own lives on.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def no_answer(error: Exception) -> str:
    """Say in one line why a request has brought none; many of these errors have no message."""
    return f"no answer: {type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has answered rightly.

    Args:
        start_seconds: From the start of its process to its first right answer.
    """

    server: Server
    process: HostProcess
    url: str
    start_seconds: float

    def check(self, questions: Questions) -> None:
        """Send every body once, and check the answers.

        Raises:
            ServerError: there is no answer, or it is not what XGBoost itself predicts.
        """
        for n_rows in questions.row_counts:
            try:
                status, answer = _ask(
                    self.server, self.url, questions, n_rows, _ANSWER_TIMEOUT_SECONDS
                )
            except NO_ANSWER as error:
                raise ServerError(f"{n_rows} rows: {no_answer(error)}") from error
            if not self._is_right(questions, n_rows, status, answer):
                raise ServerError(
                    f"{n_rows} rows: status {status}, and not the right predictions:"
                    f" {answer[:200]!r}"
                )

    def cpu_seconds(self) -> float:
        return process_tree.cpu_seconds(self.process.process_id)

    def footprint(self) -> Footprint:
        return process_tree.footprint(self.process.process_id)

    def forget_output(self) -> None:
        """Truncate the log of the server, which goes on writing at its position."""
        os.ftruncate(self.process.output_file.fileno(), 0)

    def wait_until_quiet(self) -> None:
        """Wait some seconds at most until the server has emptied its queues after a load."""
        deadline = time.monotonic() + _QUIET_TIMEOUT_SECONDS
        used = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(_QUIET_WINDOW_SECONDS)
            before, used = used, self.cpu_seconds()
            if used - before < _QUIET_CPUS * _QUIET_WINDOW_SECONDS:
                return

    def _is_right(self, questions: Questions, n_rows: int, status: int, answer: bytes) -> bool:
        return status == 200 and self.server.format.is_right(answer, questions.expected(n_rows))


@contextlib.contextmanager
def running(
    server: Server, questions: Questions, *, environment_dir: Path, model_dir: Path
) -> Iterator[Running]:
    """Start a server, and stop it with all its processes at the end, whatever happens.

    Raises:
        ServerError: it ended, or gave no right answer in time; with the end of its output.
    """
    with launched(server, environment_dir=environment_dir, model_dir=model_dir) as found:
        _wait_for_right_answer(server, found.program, found.url, questions)
        start_seconds = time.monotonic() - found.started_at
        yield Running(server, found.process, found.url, start_seconds)


@dataclass(frozen=True, slots=True)
class Launched:
    """A server whose process has just been started; it may not listen yet."""

    process: HostProcess
    program: RunningProgram
    url: str
    started_at: float


@contextlib.contextmanager
def launched(server: Server, *, environment_dir: Path, model_dir: Path) -> Iterator[Launched]:
    """Start a server's process, and stop it with all that it has started at the end."""
    with contextlib.ExitStack() as stack:
        work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        work_dir.chmod(0o755)  # nginx reads it as another user
        ports = _reserve_ports(server.ports, stack)
        how = launch(
            server,
            environment_dir=environment_dir,
            model_dir=model_dir,
            work_dir=work_dir,
            ports=ports,
        )
        started_at = time.monotonic()
        process = HostProcess(how.command, environment=how.environment, working_dir=work_dir)
        program = RunningProgram(process)
        stack.callback(_stop, program)
        yield Launched(process, program, f"http://{LOOPBACK}:{ports[0]}", started_at)


def _reserve_ports(count: int, stack: contextlib.ExitStack) -> list[int]:
    found: list[int] = []
    for port in _PORTS:
        if len(found) == count:
            return found
        with contextlib.suppress(PortInUseError):
            _, reservation = reserve_port(port)
            found.append(port)
            if reservation is not None:
                stack.callback(reservation.close)
    raise ServerError(f"fewer than {count} ports of {_PORTS[0]} to {_PORTS[-1]} are free")


def _wait_for_right_answer(
    server: Server, program: RunningProgram, url: str, questions: Questions
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    n_rows = questions.row_counts[0]
    last = "nothing was asked"
    while time.monotonic() < deadline and program.is_running():
        try:
            status, answer = _ask(server, url, questions, n_rows, _FIRST_ANSWER_TIMEOUT_SECONDS)
        except NO_ANSWER as error:
            last = no_answer(error)
        else:
            right = server.format.is_right(answer, questions.expected(n_rows))
            if status == 200 and right:
                return
            last = f"status {status}: {answer[:200]!r}"
        time.sleep(_POLL_SECONDS)
    state = f"gave no right answer within {START_TIMEOUT_SECONDS:g} s"
    if not program.is_running():
        state = "ended"
    raise ServerError(f"it {state}; last: {last}; its output ends:\n{program.output()[-2000:]}")


def _ask(
    server: Server, url: str, questions: Questions, n_rows: int, timeout_seconds: float
) -> tuple[int, bytes]:
    response = invoke.send(
        url,
        "POST",
        server.route,
        questions.body(server.format, n_rows),
        headers={"Content-Type": server.format.content_type},
        timeout_seconds=timeout_seconds,
    )
    return response.status, response.body


def _stop(program: RunningProgram) -> None:
    if program.is_running():
        program.stop(STOP_GRACE_SECONDS)
    program.close()
