"""Handle of a model process in the worker: starts it, sends it invocations, ends it."""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from container import cgroup
from container.errors import (
    ContainerError,
    InvocationTimeoutError,
    ModelCrashedError,
    ModelLoadError,
    OutOfMemoryError,
    PlatformError,
)
from container.settings import Settings
from serve.http.responses import STREAM_SECONDS
from serve.invocation import Answer, Invocation
from serve.model_process import error_transfer, fork_messages, messages
from serve.model_process.fork_messages import Task
from serve.model_process.frames import BodyTooLargeError, Channel
from serve.model_process.output_log import LOG
from serve.runtime.validation_run import MODEL_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

# For the fork server to reap a process that has closed its connection, and to kill its descendants.
_ENDING_SECONDS = 10.0
_EXIT_SECONDS = 1.0
_MAX_MESSAGE_BYTES = 2**16
_KILLED = signal.SIGKILL.name
_N_ATTEMPTS = 3
_SHARE_OF_MEMORY = 4  # of the container's memory, for one answer


class KilledWhileLoadingError(ModelLoadError):
    """The process was killed from outside, or the fork server was."""


def start(server: Path, directory: Path, name: str, settings: Settings) -> "ModelProcess":
    """Start a process and wait until its model is loaded; see `ModelProcess`.

    It is started again if it was killed meanwhile: the cause may lie outside.
    """
    for _ in range(_N_ATTEMPTS):
        try:
            return ModelProcess(server, directory, name, settings)
        except KilledWhileLoadingError as error:
            facts = {"model_name": name, "reason": error.message}
            logger.warning("model_process_killed", extra=facts)
    raise PlatformError(
        f"the process that loads the model was killed {_N_ATTEMPTS} times; try later"
    )


class ModelProcess:
    """The process of a model with code; see `CodeModel`, which starts it again after its end."""

    def __init__(self, server: Path, directory: Path, name: str, settings: Settings) -> None:
        """Start the process and wait until the model is loaded.

        Args:
            server: Directory of the fork server's socket.
            directory: Of the model.
            name: Of the model.
            settings: Of the server.
        Raises:
            ContainerError: the model cannot be loaded; the cause has the traceback.
            OutOfMemoryError: there is not enough memory for it.
            PlatformError: no process can be started.
        """
        self._name = name
        self._timeout_seconds = float(settings.timeout_seconds)
        self._max_answer_bytes = cgroup.memory_bytes() // _SHARE_OF_MEMORY
        self._lock = threading.Lock()  # one exchange at a time
        self.reason = ""  # why it has ended
        self.is_counted = False  # as a crash, by the owner
        self._n_kills = cgroup.memory_kills()
        task = Task(str(directory), name)
        self._channel, self._control = _start(server, task)
        try:
            loaded = messages.loaded(self._loaded())
            self.facts = loaded.facts
            self.has_own_formats = loaded.has_own_formats
            self.n_bytes = loaded.n_bytes
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise ModelLoadError(
                "the model's code closed or used a descriptor of the server"
            ) from error
        except BaseException:
            self.close()
            raise
        try:
            self._control.send(b"ready")
        except OSError as error:  # the fork server was killed, and its processes with it
            self.close()
            raise KilledWhileLoadingError(f"the fork server ended: {error.strerror}") from error
        logger.info("model_loaded", extra={"model_name": name, **self.facts})
        if loaded.shared_user:
            facts = {"model_name": name, "reason": loaded.shared_user}
            logger.warning("model_without_own_user", extra=facts)

    @property
    def has_ended(self) -> bool:
        """True if the process has ended, or was closed."""
        if self.reason:
            return True
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if poll.poll(0):  # the fork server reports its end, and nothing else
            self._end(_described_exit(self._exit_status()))
        return bool(self.reason)

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one invocation; see `ScriptServable.invoke`.

        Raises:
            ModelCrashedError: the process ended meanwhile.
            InvocationTimeoutError: it took too long, and was ended.
            OutOfMemoryError: it was killed for memory, or its answer is too large.
        """
        header = {
            "content_type": invocation.content_type,
            "accept": invocation.accept,
            "headers": {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in invocation.headers.items()
            },
            "request_id": invocation.request_id,
        }
        reply, body = self._exchange(header, invocation.body, self._timeout_seconds)
        stream = reply.get("stream")
        try:
            return messages.answer(reply, body if stream is None else self._pieces(stream))
        except (KeyError, TypeError, ValueError) as error:
            raise self._broken() from error

    def close(self) -> None:
        """End the process and all that it has started; returns when they are gone. Idempotent."""
        self.reason = self.reason or "it was unloaded"
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(_ENDING_SECONDS)
            while self._control.recv(_MAX_MESSAGE_BYTES):
                pass
        self._control.close()
        with contextlib.suppress(OSError):  # wakes a thread that waits for an answer
            self._channel.shut_down()
        with self._lock:
            self._channel.close()

    def _pieces(self, stream: Any) -> Generator[bytes, None, None]:
        """Yield the pieces of a stream; closing this generator closes the one of the code."""
        deadline = time.monotonic() + STREAM_SECONDS
        is_open = True
        try:
            while True:
                seconds = max(1.0, deadline - time.monotonic())
                is_open = False  # an error ends the stream, too
                reply, piece = self._exchange({"next": stream}, b"", seconds)
                if "end" in reply:
                    return
                is_open = True
                yield piece
        finally:
            if is_open:
                self._exchange({"close": stream}, b"", self._timeout_seconds)

    def _exchange(
        self, header: dict[str, Any], body: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        """Send a frame and receive the reply; raises the error that the reply describes."""
        with self._lock:
            if self.reason:
                raise ModelCrashedError(f"the process of the model has ended: {self.reason}")
            try:
                self._channel.limit_seconds(seconds)
                self._channel.send(header, body)
                reply, content = self._channel.receive(max_bytes=self._max_answer_bytes)
            except TimeoutError as error:
                self._end("an invocation took longer than the limit")
                raise InvocationTimeoutError(seconds, "SAGEMAKER_MODEL_SERVER_TIMEOUT") from error
            except BodyTooLargeError as error:
                self._end("an answer was too large")
                raise OutOfMemoryError(
                    f"the model answered with {error.n_bytes} bytes; an answer may take "
                    f"{self._max_answer_bytes} bytes, a quarter of the memory"
                ) from error
            except (EOFError, OSError) as error:
                raise self._crashed() from error
            except MemoryError:
                self._end("there was no memory for an answer")
                raise
            except ValueError as error:
                raise self._broken() from error
        if "error" not in reply:
            return reply, content
        try:
            described = error_transfer.unpacked(reply["error"])
        except (AttributeError, TypeError, ValueError) as error:
            raise self._broken() from error
        raise described

    def _loaded(self) -> dict[str, Any]:
        """Receive the report of a loaded model."""
        try:
            self._channel.limit_seconds(MODEL_TIMEOUT_SECONDS)
            report, _ = self._channel.receive(max_bytes=0)
        except TimeoutError as error:
            raise ModelLoadError(
                f"loading the model took longer than {MODEL_TIMEOUT_SECONDS:g} s"
            ) from error
        except (EOFError, OSError) as error:
            crash = self._crashed()
            if not isinstance(crash, ModelCrashedError):
                raise crash from error
            problem = f"the process that loaded the model ended: {self.reason}"
            kind = KilledWhileLoadingError if self.reason == _KILLED else ModelLoadError
            raise kind(problem) from error
        except (ValueError, BodyTooLargeError) as error:
            raise ModelLoadError(
                "the model's code wrote to a file descriptor that it did not open"
            ) from error
        if "error" not in report:
            return report
        failure = error_transfer.unpacked(report["error"])
        if isinstance(failure, MemoryError) or isinstance(failure.__cause__, MemoryError):
            raise OutOfMemoryError(_no_memory()) from failure
        if not isinstance(failure, ContainerError):
            raise ModelLoadError("the model cannot be loaded; see the log") from failure
        raise failure

    def _crashed(self) -> ContainerError:
        """Return the error for a process that has closed its connection."""
        status = self._exit_status()
        was_killed = status == signal.SIGKILL
        if was_killed and cgroup.memory_kills() > self._n_kills:
            self._end("it was killed, since memory ran out")
            return OutOfMemoryError(_no_memory())
        self._end(_described_exit(status))
        return ModelCrashedError(
            f"the process of the model ended: {self.reason}; the next invocation starts it again"
        )

    def _broken(self) -> ContainerError:
        """End the process, whose code has written into the connection; returns the error."""
        self._end("its code wrote to a file descriptor that it did not open")
        return ModelCrashedError(f"the process of the model was ended: {self.reason}")

    def _end(self, reason: str) -> None:
        self.reason = self.reason or reason
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def _exit_status(self) -> int | None:
        """Wait for the exit of the process, and return its status as of `os.waitpid`.

        Returns:
            None where it has closed the connection and lives.
        """
        try:
            self._control.settimeout(_EXIT_SECONDS)
            packet = self._control.recv(_MAX_MESSAGE_BYTES)
            if packet:
                return fork_messages.decoded(fork_messages.Answer, packet).status
        except (TimeoutError, ValueError):
            return None
        except OSError as error:
            logger.debug("fork_server_gone", exc_info=error)
        return signal.SIGKILL  # the fork server has ended, and its processes with it


def _start(directory: Path, task: Task) -> tuple[Channel, socket.socket]:
    """Have the fork server start a process; returns its connection and that to the fork server."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    try:
        control.settimeout(MODEL_TIMEOUT_SECONDS)
        control.connect(str(fork_messages.socket_file(directory)))
        socket.send_fds(control, [json.dumps(task._asdict()).encode()], [theirs.fileno(), writer])
    except OSError as error:
        for each in (control, ours):
            each.close()
        os.close(reader)
        raise PlatformError("no process can be started for the model; try later") from error
    finally:
        theirs.close()
        os.close(writer)
    LOG.watch(reader, task.model_name or "")
    return Channel(ours), control


def _described_exit(status: int | None) -> str:
    if status is None:
        return "it closed its connection"
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _no_memory() -> str:
    return (
        "the model takes more memory than there is: "
        f"{cgroup.memory_available_bytes() >> 20} of {cgroup.memory_bytes() >> 20} MiB are free"
    )
