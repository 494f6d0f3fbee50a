"""A program that was started: one verb of an image, watched from outside until it ends.

How it runs (a process group or a container) is a ``ProgramHandle``; what a caller does with it is
the same for both and lives here. Exit codes are those of a shell and of Docker: 128 + N for a
program that signal N ended.
"""

import atexit
import http.client
import os
import signal
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Protocol, Self

from local_test import invoke
from local_test.outcomes import (
    EndedBy,
    FinishedRun,
    ProgramError,
    ProgramTimeoutError,
    ServerStartError,
    Stopped,
    UnreachableServerError,
)

TRAINING_GRACE_SECONDS = 120.0  # `docker stop -t 120`, developer guide "StopTrainingJob"
SERVER_GRACE_SECONDS = 30.0  # developer guide, "How Your Container Should Respond"
READY_TIMEOUT_SECONDS = 60.0  # ours: the platform waits 8 minutes
PING_INTERVAL_SECONDS = 0.05  # ours: the platform's is not documented
OUTPUT_TIMEOUT_SECONDS = 30.0
OUTPUT_INTERVAL_SECONDS = 0.05
KILL_TIMEOUT_SECONDS = 30.0


class ProgramHandle(Protocol):
    """Operations that differ between a process group and a container."""

    @property
    def name(self) -> str:
        """The container's name, or the process group's."""
        ...

    @property
    def process_id(self) -> int:
        """The first process, PID 1 of a container, in the host's numbering."""
        ...

    @property
    def output_file(self) -> IO[bytes]:
        """File that receives stdout and stderr; open until ``release``."""
        ...

    def wait(self, timeout_seconds: float) -> int | None:
        """Return the exit code, or ``None`` if the program is still running after the time."""
        ...

    def send_signal(self, signal_number: int) -> None:
        """Signal the first process; do nothing when it has ended."""
        ...

    def process_ids(self) -> tuple[int, ...]:
        """Return every living process of the program, in the host's numbering."""
        ...

    def release(self) -> None:
        """Kill what still runs and give everything back but ``output_file``."""
        ...


class RunningProgram:
    """A program under watch. Close it, or use it as a context manager.

    Leaving the context stops the program as :meth:`stop` does, or kills it at once if an exception
    is on its way. What is forgotten is killed when this interpreter exits.
    """

    grace_seconds = TRAINING_GRACE_SECONDS
    context_signal = signal.SIGTERM  # sent on leaving the context; another may end it sooner

    def __init__(self, handle: ProgramHandle) -> None:
        self._handle = handle
        self._started_at = time.monotonic()
        self._exit_code: int | None = None
        self._final_output: bytes | None = None
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The container's name for ``docker exec`` and the like, or the process group's."""
        return self._handle.name

    @property
    def process_id(self) -> int:
        """The first process, PID 1 of a container, in the host's numbering."""
        return self._handle.process_id

    def process_ids(self) -> tuple[int, ...]:
        """Return every living process of the program; the host's numbering, ascending."""
        return self._handle.process_ids() if self.is_running() else ()

    def is_running(self) -> bool:
        return self._poll(0) is None

    def output(self) -> str:
        """Return what it has written so far to stdout and stderr.

        Between the two streams of a container the order is the engine's, which may be off.
        """
        return self._read_output(0).decode(errors="replace")

    def follow(self, position: int = 0) -> Iterator[bytes]:
        """Yield what it writes from the given byte on, as it writes it, until it ends.

        A chunk is empty when nothing came for a moment, so that the caller can look around.
        """
        has_ended = False
        while not has_ended:
            has_ended = self._poll(OUTPUT_INTERVAL_SECONDS) is not None or self._is_closed()
            written = self._read_output(position)
            position += len(written)
            yield written

    def send_signal(self, signal_number: int) -> None:
        """Signal the first process, as the engine signals PID 1; do nothing when it has ended."""
        self._handle.send_signal(signal_number)

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float) -> int:
        """Wait for its end and return the exit code.

        Raises:
            ProgramTimeoutError: it is still running; it is left alone.
        """
        exit_code = self._poll(timeout_seconds)
        if exit_code is None:
            raise ProgramTimeoutError(
                f"still running after {timeout_seconds:g} s", output=self.output(), exit_code=None
            )
        return exit_code

    def wait_for_output(self, text: str, timeout_seconds: float = OUTPUT_TIMEOUT_SECONDS) -> None:
        """Wait until it has written ``text``.

        Raises:
            ProgramError: it ended without; ``ProgramTimeoutError`` if the time is over.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            exit_code = self._poll(0)  # before the look, so that last words are not missed
            if text in self.output():
                return
            if exit_code is not None:
                problem = f"ended with exit code {exit_code} and never wrote {text!r}"
                raise ProgramError(problem, output=self.output(), exit_code=exit_code)
            if time.monotonic() > deadline:
                problem = f"wrote no {text!r} within {timeout_seconds:g} s"
                raise ProgramTimeoutError(problem, output=self.output(), exit_code=None)
            time.sleep(OUTPUT_INTERVAL_SECONDS)

    def finish(self, timeout_seconds: float) -> FinishedRun:
        """Wait for its end, then close it; a program that outlives the time is killed.

        Raises:
            ProgramTimeoutError: it did not end in time.
        """
        try:
            exit_code = self.wait(timeout_seconds)
            duration_seconds = time.monotonic() - self._started_at
        finally:
            self.close()
        return FinishedRun(exit_code, self.output(), duration_seconds)

    def stop(self, grace_seconds: float | None = None) -> Stopped:
        """Stop it as ``docker stop`` does: SIGTERM, SIGKILL after the grace time; then close it.

        Args:
            grace_seconds: The platform's own for the verb by default, see ``self.grace_seconds``.
        """
        asked_at = time.monotonic()
        ended_by = EndedBy.ITSELF
        exit_code = self._poll(0)
        if exit_code is None:
            ended_by = EndedBy.SIGTERM
            self.terminate()
            exit_code = self._poll(self.grace_seconds if grace_seconds is None else grace_seconds)
        if exit_code is None:
            ended_by = EndedBy.SIGKILL
            self.send_signal(signal.SIGKILL)
            exit_code = self.wait(KILL_TIMEOUT_SECONDS)
        duration_seconds = time.monotonic() - asked_at
        self.close()
        return Stopped(exit_code, ended_by, duration_seconds)

    def close(self) -> None:
        """Kill what still runs and clean up; its output can still be read."""
        if self._is_closed():
            return
        try:
            self._handle.release()
            self._poll(0)
        finally:
            self._final_output = self._read_output(0)
            self._handle.output_file.close()
            atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None and self.is_running():
            self.send_signal(self.context_signal)
            self._poll(self.grace_seconds)
        self.close()

    def _poll(self, timeout_seconds: float) -> int | None:
        if self._exit_code is None and not self._is_closed():
            self._exit_code = self._handle.wait(timeout_seconds)
        return self._exit_code

    def _is_closed(self) -> bool:
        return self._final_output is not None

    def _read_output(self, position: int) -> bytes:
        if self._final_output is not None:
            return self._final_output[position:]
        # Not read(): the program writes at the offset of this very file.
        chunks = []
        while chunk := os.pread(self._handle.output_file.fileno(), 1 << 20, position):
            chunks.append(chunk)
            position += len(chunk)
        return b"".join(chunks)


class RunningServer(RunningProgram):
    """A program that listens on an address; ``None`` where none leads to it from here."""

    grace_seconds = SERVER_GRACE_SECONDS

    def __init__(self, handle: ProgramHandle, address: tuple[str, int] | None) -> None:
        super().__init__(handle)
        self._address = address

    @property
    def port(self) -> int:
        return self._reachable_address()[1]

    @property
    def url(self) -> str:
        """Address of the program from this machine, ``http://HOST:PORT``."""
        host, port = self._reachable_address()
        return f"http://{host}:{port}"

    def wait_until_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Ping until the answer is 200.

        Raises:
            ServerStartError: the program ended, or the time is over; in this case it is left alone.
        """
        deadline = time.monotonic() + timeout_seconds
        while (exit_code := self._poll(PING_INTERVAL_SECONDS)) is None:
            answer = self._ping()
            if answer == "200":
                return
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"the server was not ready within {timeout_seconds:g} s:"
                    f" the last GET {self.url}/ping gave {answer}",
                    output=self.output(),
                    exit_code=None,
                )
        raise ServerStartError(
            f"the server ended with exit code {exit_code} before it was ready",
            output=self.output(),
            exit_code=exit_code,
        )

    def _reachable_address(self) -> tuple[str, int]:
        if self._address is None:
            raise UnreachableServerError(f"no address leads from this machine to {self.name}")
        return self._address

    def _ping(self) -> str:
        try:
            return str(invoke.ping(self.url).status)
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
