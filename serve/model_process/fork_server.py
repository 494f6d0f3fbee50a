"""Fork server: has the libraries loaded but no model, and forks a process for each task.

    worker --directory--> fork server --fork--> validation run: verify, load, predict, measure
           <-- answer --- fork server <--report-- validation run

    worker --directory, descriptors--> fork server --fork--> model process (`model_child.py`)
           <------------- invocations and answers ------------>

A model that crashes, hangs or takes too much memory does so in its process. The fork server has one
thread and never runs a model, so it may fork at any time; a child has the libraries at once. A
worker has threads and models, and cannot fork safely.

A process ends with the connection of the worker that asked for it, and all its descendants with it.

The report of a validation run is that of `serve/runtime/validation_run.py`, as in a server of one
model. Of a run that crashed the crash is reported, whatever is in the pipe.
"""

import contextlib
import ctypes
import gc
import itertools
import json
import logging
import os
import random
import resource
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from container.settings import Settings
from serve.model_process import containment, descendants, model_child
from serve.model_process.containment import N_USERS
from serve.model_process.fork_messages import Answer, Task, socket_file
from serve.model_process.forked_run import Run, reported
from serve.model_process.model_child import Start
from serve.runtime import validation_run

logger = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 2**16
_CLIENT_SECONDS = 5.0
_POLL_SECONDS = 1.0  # how long the end of the parent may go unnoticed
# A run that takes longer no longer counts against the limit of runs at a time: it may hang, and do
# so for minutes.
_SLOW_SECONDS = 5.0
_MAX_SLOW = 16
_BACKLOG = 1024
_ENDING_SECONDS = 5.0
_ENDING_POLL_SECONDS = 0.005
_PREFIX = "byoa-model-"  # of working directories
_PR_SET_NAME = 15  # prctl(2)
_SIGNALS = (  # those that gunicorn handles
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU),
)


Validate = Callable[[Path, Settings], Mapping[str, object]]
"""Validates a model: called with its directory, in a child; returns the members of `Success`."""


class ForkServer:
    """Handle of the fork server in its parent process, which is also that of the workers."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        n_at_once: int,
        validate: Validate | None = None,
    ) -> None:
        """Args:
        directory: Holds its socket; see `socket_file`.
        n_at_once: Models that are validated or loaded at a time; further ones wait. Slow ones do
            not count, up to some more.
        validate: For validation runs; None where there are none.
        """
        self._settings = settings
        self._n_at_once = n_at_once
        self._validate = validate
        self._owner = os.getpid()
        # Of the model processes: others pass through it to theirs, and see no names in it.
        self._working = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._working.chmod(0o711)
        self.process_id = 0
        # Open for as long as the container lives: a worker that connects while one fork server has
        # died and the next one has not started waits.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_file(directory)))
        self._listener.listen(_BACKLOG)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if os.getpid() == self._owner:  # a worker that ends unwinds this block, too
            self.stop()

    def keep_running(self) -> bool:
        """Start the fork server unless it runs; returns True if it was started."""
        if self.process_id and _is_running(self.process_id):
            return False
        if self.process_id:
            logger.warning("fork_server_died", extra={"process_id": self.process_id})
        parent = os.getpid()  # not `getppid` in the child: the parent may have ended by then
        # Until the child has handlers of its own it has those of this process: a SIGTERM of `stop`
        # that came so early would only be noted in the child, and be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process_id = os.fork()
            if process_id == 0:
                make = partial(
                    _Server,
                    *(self._listener, self._working, self._settings, self._n_at_once),
                    self._validate,
                )
                _serve_and_exit(make, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.process_id = process_id
        return True

    def stop(self) -> None:
        """End the fork server and the processes that it has forked, and remove their files."""
        self._listener.close()
        if self.process_id:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)
            deadline = time.monotonic() + _ENDING_SECONDS
            while _is_running(self.process_id) and time.monotonic() < deadline:
                time.sleep(_ENDING_POLL_SECONDS)
        shutil.rmtree(self._working, ignore_errors=True)


def _is_running(process_id: int) -> bool:
    """True if this child runs; gunicorn may have reaped it (then it does not)."""
    try:
        return os.waitpid(process_id, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def _serve_and_exit(make: "Callable[[], _Server]", parent: int) -> NoReturn:
    """Be the fork server, and exit without the parent's clean-up; called with signals blocked."""
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a signal that came meanwhile ends it here
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"fork-server")
        descendants.adopt_orphans()
        gc.collect()
        gc.freeze()  # keeps the collector from writing to, and so copying, pages of the children
        make().run(parent)
    except Exception:
        logger.exception("fork_server_failed")
    finally:
        os._exit(1)


class _Server:
    def __init__(
        self,
        listener: socket.socket,
        working: Path,
        settings: Settings,
        n_at_once: int,
        validate: Validate | None,
    ) -> None:
        self._listener = listener
        self._working = working
        self._settings = settings
        self._n_at_once = n_at_once
        self._validate = validate
        self._runs: dict[int, Run] = {}  # by the child's process id
        self._cleaners: set[int] = set()  # children that remove working directories
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._soft_descriptors = soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one for each model process
        # A signal writes into `_wake_up`, so that `select` returns: one that came just before it
        # would otherwise be seen only after its timeout.
        self._child_ended, self._wake_up = socket.socketpair()
        for end in (self._child_ended, self._wake_up):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._child_ended, selectors.EVENT_READ)
        self._is_accepting = False
        first = random.randrange(N_USERS)  # noqa: S311 - another one after a restart
        self._users = itertools.cycle([*range(first, N_USERS), *range(first)])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._exit)
        signal.set_wakeup_fd(self._wake_up.fileno(), warn_on_full_buffer=False)

    def run(self, parent: int) -> None:
        """Serve until SIGTERM, or until the parent has ended."""
        while os.getppid() == parent:
            self._accept_if_there_is_room()
            ready = [key for key, _ in self._selector.select(self._seconds_to_wait())]
            for key in ready:
                if key.fileobj is self._child_ended:
                    self._child_ended.recv(4096)
                elif key.data is not None:
                    self._hear(key.data)
            self._kill_the_late()
            self._reap()
            if any(key.fileobj is self._listener for key in ready):
                self._begin()
        self._exit()

    def _accept_if_there_is_room(self) -> None:
        """Listen for further clients, or let them wait in the socket's backlog."""
        has_room = self._has_room()
        if has_room and not self._is_accepting:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._is_accepting and not has_room:
            self._selector.unregister(self._listener)
        self._is_accepting = has_room

    def _hear(self, process_id: int) -> None:
        """Handle a message of a worker: its model is loaded; or its end: it has hung up."""
        run = self._runs.get(process_id)
        if run is None:
            return
        try:
            message = run.client.recv(_MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        if message:
            run.is_ready = True
        else:
            self._selector.unregister(run.client)
            descendants.end_tree(process_id)

    def _begin(self) -> None:
        """Take one request and fork its process."""
        client, _ = self._listener.accept()
        client.settimeout(_CLIENT_SECONDS)
        given: list[int] = []
        try:
            packet, given, _, _ = socket.recv_fds(client, _MAX_MESSAGE_BYTES, 2)
            task = Task(**json.loads(packet))
        except (OSError, ValueError, TypeError):
            task = None
        if task is None:
            client.close()
        elif task.model_name is None and self._validate is not None:
            self._begin_validation(client, Path(task.directory), self._validate)
        elif task.model_name is not None and len(given) == 2:
            self._begin_model(client, Path(task.directory), task.model_name, *given)
        else:
            client.close()
        for descriptor in given:
            os.close(descriptor)

    def _begin_validation(self, client: socket.socket, directory: Path, validate: Validate) -> None:
        report, writer = os.pipe()
        for end in (report, writer):
            os.set_blocking(end, False)  # a model may fill the pipe, or keep it open
        run = Run(client, time.monotonic(), report)
        process_id = _fork()
        if process_id == 0:
            self._runs[0] = run
            self._close_descriptors()

            def work() -> Mapping[str, object]:
                containment.contain(b"validation-run")
                containment.limit_memory()
                logging.disable(logging.INFO)  # the worker that loads the model says so
                return validate(directory, self._settings)

            validation_run.run_and_exit(work, writer, directory=directory)
        os.close(writer)
        self._add(process_id, run)

    def _begin_model(
        self, client: socket.socket, directory: Path, name: str, connection: int, output: int
    ) -> None:
        run = Run(client, time.monotonic(), user=self._free_user())
        with contextlib.suppress(OSError):  # a full disk; the process has none then
            run.working_directory = Path(tempfile.mkdtemp(dir=self._working))
        process_id = _fork()
        if process_id == 0:
            start = Start(directory, name, run.working_directory, run.user, self._soft_descriptors)
            model_child.run_and_exit(start, self._settings, connection, output)
        self._add(process_id, run)

    def _add(self, process_id: int, run: Run) -> None:
        self._runs[process_id] = run
        self._selector.register(run.client, selectors.EVENT_READ, process_id)

    def _free_user(self) -> int:
        """Return the user that no process has, and that none has had for the longest time.

        A model that has ended may have left files that only its user may read.
        """
        taken = {run.user for run in self._runs.values()}
        free = (user for user in itertools.islice(self._users, N_USERS) if user not in taken)
        return next(free, 0)  # beyond the number of users two models share one

    def _has_room(self) -> bool:
        since = time.monotonic() - _SLOW_SECONDS
        loading = [run for run in self._runs.values() if not run.is_ready]
        n_quick = sum(run.began > since for run in loading)
        return n_quick < self._n_at_once and len(loading) < self._n_at_once + _MAX_SLOW

    def _close_descriptors(self) -> None:
        """Close in a child all by which a model could reach clients or keep them waiting."""
        self._selector.close()
        self._listener.close()
        self._child_ended.close()
        self._wake_up.close()
        for run in self._runs.values():
            run.client.close()
            if run.report >= 0:
                os.close(run.report)

    def _reap(self) -> None:
        """Reap children that have ended, and answer their clients."""
        while True:
            try:
                process_id, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process_id:
                return
            run = self._runs.pop(process_id, None)
            if run is None:
                self._cleaners.discard(process_id)
                continue
            # What it has started is a child of this process by now.
            descendants.end_orphans(self._runs.keys() | self._cleaners)
            self._answer(run, status)

    def _answer(self, run: Run, status: int) -> None:
        """Tell a worker that the process which it asked for has ended."""
        report = reported(run, status) if run.report >= 0 else {}
        answer = Answer(status=status, is_late=run.is_late, **report)
        with contextlib.suppress(KeyError, ValueError):  # it has hung up before
            self._selector.unregister(run.client)
        with contextlib.suppress(OSError):
            run.client.send(json.dumps(answer._asdict()).encode())
        run.client.close()
        if run.report >= 0:
            os.close(run.report)
        if run.working_directory is not None:
            self._remove(run.working_directory)

    def _remove(self, directory: Path) -> None:
        """Remove a working directory: a full one in a child, since that may take long."""
        try:
            directory.rmdir()
        except OSError:
            process_id = _fork()
            if process_id == 0:
                shutil.rmtree(directory, ignore_errors=True)
                os._exit(0)
            self._cleaners.add(process_id)

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for process_id, run in self._runs.items():
            if run.deadline < now and not run.is_late:
                run.is_late = True
                descendants.end_tree(process_id)

    def _seconds_to_wait(self) -> float:
        first = min((run.deadline for run in self._runs.values()), default=float("inf"))
        return max(0.0, min(_POLL_SECONDS, first - time.monotonic()))

    def _exit(self, *_: object) -> None:
        for process_id in self._runs:
            descendants.end_tree(process_id)
        for run in self._runs.values():
            if run.working_directory is not None:
                shutil.rmtree(run.working_directory, ignore_errors=True)
        os._exit(0)


def _fork() -> int:
    """Fork; the child has none of the fork server's signal handlers, not even for a moment."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCHLD))
    process_id = os.fork()
    if process_id == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return process_id
