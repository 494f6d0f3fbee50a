"""Fork server: has all libraries loaded but no model, and validates each model in a child process.

    worker --directory--> fork server --fork--> child: verify, load, predict, measure
           <-- answer --- fork server <--report-- child

A model that crashes, hangs or takes too much memory does so in its child. The fork server has one
thread and never runs a model, so it may fork at any time; a child has the libraries at once. The
child's report is that of `serve/runtime/validation_run.py`, as in a server of one model. The fork
server is needed besides: a worker has threads and models, and cannot fork safely.

A model's own code runs in the child. It reaches neither the worker nor other validation runs. A
secret tells the child's report from what the code itself writes into the pipe; of a child that
crashed the crash is reported, whatever is in the pipe. Code that searches the memory of its own
process finds the secret: then it can report a wrong size of its own model. No code of a model runs
in the child of another model.
"""

import contextlib
import ctypes
import json
import logging
import os
import secrets
import select
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from container.settings import Settings
from serve.multi_model.admission import model_validation
from serve.runtime import validation_run
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 2**16
_SECRET_BYTES = 16
_FORGED = (
    "the model's code wrote to a file descriptor that it did not open: the report of its "
    "validation run"
)
_CLIENT_SECONDS = 5.0
_POLL_SECONDS = 1.0  # how long the end of the parent may go unnoticed
# A run that takes longer no longer counts against the limit of runs at a time: it may hang, and do
# so for minutes.
_SLOW_SECONDS = 5.0
_MAX_SLOW = 16
_BACKLOG = 1024
_PR_SET_NAME = 15  # prctl(2)
_SIGNALS = (  # those that gunicorn handles
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU),
)


class ForkServer:
    """Handle of the fork server in its parent process, which is also that of the workers."""

    def __init__(self, directory: Path, settings: Settings, *, n_at_once: int) -> None:
        """Args:
        directory: Holds its socket; see `socket_file`.
        n_at_once: Validation runs at a time; further ones wait. Slow runs do not count, up to some
            more.
        """
        self._settings = settings
        self._n_at_once = n_at_once
        self.process_id = 0
        # Open for as long as the container lives: a worker that connects while one fork server has
        # died and the next one has not started waits.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_file(directory)))
        self._listener.listen(_BACKLOG)

    def keep_running(self) -> None:
        """Start the fork server unless it runs."""
        if self.process_id and _is_running(self.process_id):
            return
        if self.process_id:
            logger.warning("fork_server_died", extra={"process_id": self.process_id})
        parent = os.getpid()  # not `getppid` in the child: the parent may have ended by then
        # Until the child has handlers of its own it has those of this process: a SIGTERM of `stop`
        # that came so early would only be noted in the child, and be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process_id = os.fork()
            if process_id == 0:
                _serve_and_exit(self._listener, self._settings, self._n_at_once, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.process_id = process_id

    def stop(self) -> None:
        """End the fork server and its validation runs, and close its socket."""
        self._listener.close()
        if self.process_id:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)


def socket_file(directory: Path) -> Path:
    """The Unix socket on which the fork server takes requests."""
    return directory / "fork-server.sock"


def is_listening(directory: Path) -> bool:
    """True if a server has its socket in `directory`, or if that cannot be told (yet)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(socket_file(directory)))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _is_running(process_id: int) -> bool:
    """True if this child runs; gunicorn may have reaped it (then it does not)."""
    try:
        return os.waitpid(process_id, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


@dataclass(slots=True)
class _Run:
    """A validation run under way."""

    client: socket.socket
    report: int  # read end of the child's pipe
    secret: bytes
    began: float
    is_late: bool = False

    @property
    def deadline(self) -> float:
        return self.began + MODEL_TIMEOUT_SECONDS


def _serve_and_exit(
    listener: socket.socket, settings: Settings, n_at_once: int, parent: int
) -> NoReturn:
    """Be the fork server, and exit without the parent's clean-up; called with signals blocked."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a signal that came meanwhile ends it here
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"fork-server")
        _Server(listener, settings, n_at_once).run(parent)
    except Exception:
        logger.exception("fork_server_failed")
    finally:
        os._exit(1)


class _Server:
    def __init__(self, listener: socket.socket, settings: Settings, n_at_once: int) -> None:
        self._listener = listener
        self._settings = settings
        self._n_at_once = n_at_once
        self._runs: dict[int, _Run] = {}  # by the child's process id
        # A signal writes into `_wake_up`, so that `select` returns: one that came just before it
        # would otherwise be seen only after its timeout.
        self._child_ended, self._wake_up = socket.socketpair()
        for end in (self._child_ended, self._wake_up):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._exit)
        signal.set_wakeup_fd(self._wake_up.fileno(), warn_on_full_buffer=False)

    def run(self, parent: int) -> None:
        """Serve until SIGTERM, or until the parent has ended."""
        while os.getppid() == parent:
            clients = {run.client: pid for pid, run in self._runs.items()}
            awaited: list[socket.socket] = [self._child_ended, *clients]
            if self._has_room():  # else further clients wait in the socket's backlog
                awaited.append(self._listener)
            ready, _, _ = select.select(awaited, [], [], self._seconds_to_wait())
            if self._child_ended in ready:
                self._child_ended.recv(4096)
            # A client sends one request only: one that is readable afterwards has hung up.
            for client in set(ready) & clients.keys():
                _kill(clients[client])
            self._kill_the_late()
            self._reap()
            if self._listener in ready:
                self._begin()
        self._exit()

    def _begin(self) -> None:
        """Take one request and fork its validation run."""
        client, _ = self._listener.accept()
        client.settimeout(_CLIENT_SECONDS)
        try:
            directory = client.recv(_MAX_MESSAGE_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            directory = ""
        if not directory:
            client.close()
            return
        report, writer = os.pipe()
        run = _Run(client, report, secrets.token_bytes(_SECRET_BYTES), time.monotonic())
        for end in (report, writer):
            os.set_blocking(end, False)  # a model's code may fill the pipe, or keep it open
        process_id = os.fork()
        if process_id == 0:
            self._runs[0] = run
            self._close_descriptors()
            self._validate_and_exit(Path(directory), writer, run.secret)
        os.close(writer)
        self._runs[process_id] = run

    def _validate_and_exit(self, directory: Path, report: int, secret: bytes) -> NoReturn:
        """Be the child of a validation run."""

        def work() -> Mapping[str, object]:
            model_validation.contain_this_process()
            verdict = model_validation.validate(directory, self._settings)
            return _Success(verdict.algorithm, verdict.n_bytes)._asdict()

        validation_run.run_and_exit(work, report, secret=secret, directory=directory)

    def _has_room(self) -> bool:
        since = time.monotonic() - _SLOW_SECONDS
        n_quick = sum(run.began > since for run in self._runs.values())
        return n_quick < self._n_at_once and len(self._runs) < self._n_at_once + _MAX_SLOW

    def _close_descriptors(self) -> None:
        """Close in a child all by which a model's code could reach clients or keep them waiting."""
        self._listener.close()
        self._child_ended.close()
        signal.set_wakeup_fd(-1)  # since Python 3.12 asyncio has done so already
        self._wake_up.close()
        for run in self._runs.values():
            run.client.close()
            os.close(run.report)

    def _reap(self) -> None:
        """Reap children that have ended, and answer their clients."""
        while self._runs:
            process_id, status = os.waitpid(-1, os.WNOHANG)
            if not process_id:
                return
            run = self._runs.pop(process_id)
            _kill(process_id)  # the group: processes that the model's code may have started
            answer = Answer(status=status, is_late=run.is_late, **_reported(run, status))
            with contextlib.suppress(OSError):
                run.client.send(json.dumps(answer._asdict()).encode())
            run.client.close()
            os.close(run.report)

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for process_id, run in self._runs.items():
            if run.deadline < now:
                run.is_late = True
                _kill(process_id)

    def _seconds_to_wait(self) -> float:
        first = min((run.deadline for run in self._runs.values()), default=float("inf"))
        return max(0.0, min(_POLL_SECONDS, first - time.monotonic()))

    def _exit(self, *_: object) -> None:
        for process_id in self._runs:
            _kill(process_id)
        os._exit(0)


def _kill(process_id: int) -> None:
    """Kill a child and the process group that it leads."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(process_id, signal.SIGKILL)


def _reported(run: _Run, status: int) -> dict[str, Any]:
    """Read the report of a child that has ended, if the validation run wrote it.

    Args:
        status: Of `os.waitpid`.
    Returns:
        Members of `Answer`; none for a child without a report, of which `status` says all.
    """
    received = b""
    with contextlib.suppress(BlockingIOError):  # a process that it started has the pipe open, too
        while len(received) <= _MAX_MESSAGE_BYTES and (piece := os.read(run.report, 4096)):
            received += piece
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code < 0 or not received:
        return {}
    if received.startswith(run.secret):
        with contextlib.suppress(ValueError):
            content = received[_SECRET_BYTES:]
            if exit_code == 0:
                return decoded(_Success, content)._asdict()
            return decoded(_Failure, content)._asdict()
    return _Failure(_FORGED, is_memory=False)._asdict()


class Answer(NamedTuple):
    """Answer of the fork server to a worker: the outcome of a validation run.

    There is an `algorithm` if the model may be loaded; `status` is that of `os.waitpid`.
    """

    status: int
    is_late: bool
    algorithm: str = ""
    n_bytes: int = 0
    problem: str = ""
    is_memory: bool = False


class _Success(NamedTuple):
    """Report of a model that may be loaded."""

    algorithm: str
    n_bytes: int


class _Failure(NamedTuple):
    """Report of a model that is refused."""

    problem: str
    is_memory: bool


_Message = TypeVar("_Message", Answer, _Success, _Failure)


def decoded(kind: type[_Message], packet: bytes) -> _Message:
    """Decode a message in JSON.

    Raises:
        ValueError: it does not have the members of `kind`, or one has another type or is negative.
    """
    try:
        message = kind(**json.loads(packet))
    except (TypeError, RecursionError) as error:
        raise ValueError("not the members of the message") from error
    for value, expected in zip(message, kind.__annotations__.values(), strict=True):
        if type(value) is not expected or (isinstance(value, int) and value < 0):
            raise ValueError(f"{value!r} is no {expected.__name__}")
    return message
