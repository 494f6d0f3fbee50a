"""A process that has everything loaded but models, and tries each model in a child of its own.

    worker --directory--> fork server --fork--> child: verify, load, predict, measure
           <-- verdict -- fork server <--report-- child

A model that crashes, hangs or eats memory does so in its child. The fork server has one thread and
never runs a model, so it may fork at any time; a child starts with the libraries already there.

A model's own code runs in the child. It reaches neither the worker nor other trials, and what it
writes into its own report is told from a report by a secret of the trial; the verdict of a child
that crashed is that, whatever was reported. Code that searches the memory of its own process finds
the secret: then it can report a wrong size of its own model. No code of a model runs in the trial
of another one, nor in that of a model without code.
"""

import contextlib
import ctypes
import json
import logging
import os
import resource
import secrets
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from container.errors import ContainerError
from container.host_paths import shorten
from container.settings import Settings
from serve import loading
from serve.invocation import ModelServable
from serve.loading import Artifact
from serve.multi_model.model_registry import Verdict
from serve.multi_model.residency import memory_budget
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS, predict_in_all_ways
from serve.user_code.servable import ScriptServable

logger = logging.getLogger(__name__)

OWN_CODE = "code"  # what stands for the algorithm of a model that brings a script
_MAX_REQUEST_BYTES = 2**16
_MAX_PROBLEM_CHARACTERS = 4000  # of up to 12 bytes each in JSON: a pipe takes 64 KiB at once
_SECRET_BYTES = 16
_CLIENT_SECONDS = 5.0
_LOOK_AROUND_SECONDS = 1.0
# A trial that takes longer does not keep others from beginning any more: it may hang, and do so for
# minutes.
_PATIENCE_SECONDS = 5.0
_MAX_SLOW = 16
_BACKLOG = 1024
_DIE_WITH_PARENT, _BE_CALLED = 1, 15  # PR_SET_PDEATHSIG and PR_SET_NAME of prctl(2)
_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU),
)


class ForkServer:
    """The fork server as its parent, which is also that of the workers, has it in hand."""

    def __init__(self, directory: Path, settings: Settings, *, n_at_once: int) -> None:
        """Args:
        directory: Where its socket is put; see `socket_file`.
        n_at_once: How many models are tried at a time; further ones wait. Those that take long do
            not count, up to some more.
        """
        self._settings = settings
        self._n_at_once = n_at_once
        self.process_id = 0
        # Open for as long as the container lives: whoever comes between two servers waits.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_file(directory)))
        self._listener.listen(_BACKLOG)

    def keep_running(self) -> None:
        """Start it where it does not run."""
        if self.process_id and _is_running(self.process_id):
            return
        if self.process_id:
            logger.warning("fork_server_died", extra={"process_id": self.process_id})
        parent = os.getpid()
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
        """End it and whatever it is trying, and let nobody ask any more."""
        self._listener.close()
        if self.process_id:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)


def socket_file(directory: Path) -> Path:
    """Where the fork server is asked."""
    return directory / "fork-server.sock"


def is_listening(directory: Path) -> bool:
    """Whether a server has its socket there, or nobody can tell (yet)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(socket_file(directory)))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _is_running(process_id: int) -> bool:
    """Whether that child of ours runs, or somebody else has seen its end (then it does not)."""
    try:
        return os.waitpid(process_id, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


@dataclass(slots=True)
class _Trial:
    client: socket.socket
    report: int  # end of the child's pipe
    secret: bytes
    began: float
    is_late: bool = False

    @property
    def deadline(self) -> float:
        return self.began + MODEL_TIMEOUT_SECONDS


def _serve_and_exit(
    listener: socket.socket, settings: Settings, n_at_once: int, parent: int
) -> None:
    """The fork server: never returns, and runs nothing of the parent's on its way out."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a signal that came meanwhile ends it here
        ctypes.CDLL(None).prctl(_BE_CALLED, b"fork-server")
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
        self._trials: dict[int, _Trial] = {}  # by the child's process id
        self._child_ended, self._wake_up = socket.socketpair()
        for end in (self._child_ended, self._wake_up):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._leave)
        signal.set_wakeup_fd(self._wake_up.fileno(), warn_on_full_buffer=False)

    def run(self, parent: int) -> None:
        """Serve until told to leave, or until the parent is gone."""
        while os.getppid() == parent:
            clients = {trial.client: pid for pid, trial in self._trials.items()}
            awaited: list[socket.socket] = [self._child_ended, *clients]
            if self._has_room():
                awaited.append(self._listener)
            ready, _, _ = select.select(awaited, [], [], self._seconds_to_wait())
            if self._child_ended in ready:
                self._child_ended.recv(4096)
            for client in set(ready) & clients.keys():  # it sends nothing more: it has gone
                _kill(clients[client])
            self._kill_the_late()
            self._reap()
            if self._listener in ready:
                self._begin()
        self._leave()

    def _begin(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(_CLIENT_SECONDS)
        try:
            directory = client.recv(_MAX_REQUEST_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            directory = ""
        if not directory:
            client.close()
            return
        report, writer = os.pipe()
        trial = _Trial(client, report, secrets.token_bytes(_SECRET_BYTES), time.monotonic())
        for end in (report, writer):
            os.set_blocking(end, False)
        process_id = os.fork()
        if process_id == 0:
            self._trials[0] = trial
            self._close_what_is_not_the_childs()
            _try_and_exit(Path(directory), self._settings, writer, trial.secret)
        os.close(writer)
        self._trials[process_id] = trial

    def _has_room(self) -> bool:
        since = time.monotonic() - _PATIENCE_SECONDS
        n_quick = sum(trial.began > since for trial in self._trials.values())
        return n_quick < self._n_at_once and len(self._trials) < self._n_at_once + _MAX_SLOW

    def _close_what_is_not_the_childs(self) -> None:
        """A model's code shall not keep other clients waiting, or speak to them."""
        self._listener.close()
        self._child_ended.close()
        signal.set_wakeup_fd(-1)  # since Python 3.12 asyncio has done so already
        self._wake_up.close()
        for trial in self._trials.values():
            trial.client.close()
            os.close(trial.report)

    def _reap(self) -> None:
        while self._trials:
            process_id, status = os.waitpid(-1, os.WNOHANG)
            if not process_id:
                return
            trial = self._trials.pop(process_id)
            _kill(process_id)  # what it may have started
            answer = Answer(status=status, is_late=trial.is_late, **_heard(trial, status))
            with contextlib.suppress(OSError):
                trial.client.send(_encoded(answer))
            trial.client.close()
            os.close(trial.report)

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for process_id, trial in self._trials.items():
            if trial.deadline < now:
                trial.is_late = True
                _kill(process_id)

    def _seconds_to_wait(self) -> float:
        first = min((trial.deadline for trial in self._trials.values()), default=float("inf"))
        return max(0.0, min(_LOOK_AROUND_SECONDS, first - time.monotonic()))

    def _leave(self, *_: object) -> None:
        for process_id in self._trials:
            _kill(process_id)
        os._exit(0)


def _kill(process_id: int) -> None:
    """Kill a child and the group that it leads."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(process_id, signal.SIGKILL)


def _heard(trial: _Trial, status: int) -> dict[str, Any]:
    """What the child of a trial that has ended reported, if it was the trial that wrote it."""
    reported = b""
    with contextlib.suppress(BlockingIOError):  # something that it started has it open, too
        while len(reported) <= _MAX_REQUEST_BYTES and (piece := os.read(trial.report, 4096)):
            reported += piece
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code < 0 or not reported:
        return {}  # it was killed, or ended without a report: `status` says all
    if reported.startswith(trial.secret):
        with contextlib.suppress(ValueError):
            content = reported[_SECRET_BYTES:]
            if exit_code == 0:
                return decoded(_Success, content)._asdict()
            return decoded(_Failure, content)._asdict()
    problem = "the model's code wrote to a file descriptor that it did not open: its trial's report"
    return _Failure(problem)._asdict()


class Answer(NamedTuple):
    """What the fork server tells a worker of a trial that has ended.

    There is an `algorithm` if the model may be loaded, and `status` is that of `os.waitpid`.
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
    is_memory: bool = False


_Message = TypeVar("_Message", Answer, _Success, _Failure)


def decoded(kind: type[_Message], packet: bytes) -> _Message:
    """Read a message; raises `ValueError` for what is none of that kind."""
    try:
        message = kind(**json.loads(packet))
    except (TypeError, RecursionError) as error:
        raise ValueError("not the members of the message") from error
    for value, expected in zip(message, kind.__annotations__.values(), strict=True):
        if type(value) is not expected or (isinstance(value, int) and value < 0):
            raise ValueError(f"{value!r} is no {expected.__name__}")
    return message


def _encoded(message: Answer | _Success | _Failure) -> bytes:
    return json.dumps(message._asdict()).encode()


def _try_and_exit(directory: Path, settings: Settings, report: int, secret: bytes) -> None:
    """The child: never returns."""
    message: _Success | _Failure = _Failure("")
    exit_code = 1
    try:
        _prepare_to_die()
        verdict = examine(directory, settings)
        message = _Success(algorithm=verdict.algorithm, n_bytes=verdict.n_bytes)
        exit_code = 0
    except MemoryError:
        message = _Failure(problem="out of memory", is_memory=True)
    except ContainerError as error:
        is_memory = isinstance(error.__cause__, MemoryError)
        problem = shorten(error.message, directory)[:_MAX_PROBLEM_CHARACTERS]
        message = _Failure(problem=problem, is_memory=is_memory)
    except BaseException as error:
        logger.exception("trial_failed")
        problem = ContainerError(f"{type(error).__name__}: {error}").message
        message = _Failure(problem=shorten(problem, directory)[:_MAX_PROBLEM_CHARACTERS])
    finally:
        with contextlib.suppress(OSError):
            os.write(report, secret + _encoded(message))
        os._exit(exit_code)


def _prepare_to_die() -> None:
    """Let nobody else suffer: no orphan, no core file, the kernel's first choice for memory."""
    os.setpgid(0, 0)
    libc = ctypes.CDLL(None)
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    libc.prctl(_BE_CALLED, b"model-trial")
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory_budget.limit_to_what_is_free()
    logging.disable(logging.INFO)  # that it was loaded is said where it stays loaded


def examine(directory: Path, settings: Settings) -> Verdict:
    """Verify, load and predict, as no process does that must go on.

    A script is loaded; what its model would predict from is known to nobody, unless the model is an
    algorithm's.

    Raises:
        ContainerError: what is wrong with the model.
    """
    artifact = loading.inspect(directory, settings)
    records = None
    if isinstance(artifact, Artifact):
        records = artifact.algorithm.verify(artifact.directory, artifact.manifest)
    before = memory_budget.footprint()
    servable = artifact.load()
    name, in_blocks = OWN_CODE, False
    model = servable.algorithms_model if isinstance(servable, ScriptServable) else None
    if isinstance(servable, ModelServable):
        model, name = servable.model, servable.algorithm.name
        in_blocks = servable.capabilities.predicts_row_blocks
        model.predict(np.zeros((1, model.n_features), dtype=np.float32))
    n_bytes = memory_budget.footprint().growth_since(before)
    if model is not None:
        predict_in_all_ways(model, records, in_blocks=in_blocks)
    return Verdict(name, n_bytes)
