"""A program as a container: the ``ProgramHandle`` of Docker mode."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from local_test.docker_engine import (
    EngineError,
    address_of,
    docker,
    docker_command,
    ensure_image,
    inspect_container,
    is_rootless,
)

LABEL = "byoa-local-test"
ML_ROOT = "/opt/ml"
LAST_OUTPUT_TIMEOUT_SECONDS = 10.0
KILL_TIMEOUT_SECONDS = 30.0


class Container:
    """A container that mounts ``root`` as ``/opt/ml``; removed on release.

    Its output arrives through ``docker logs --follow`` and its exit code through ``docker wait``,
    so that nothing has to be polled.

    Args:
        read_only: Directories below ``root`` that are mounted once more, read-only.
        options: More ``docker run`` options.
    Raises:
        EngineError: the engine cannot start it, e.g. no such image or a wrong option.
    """

    def __init__(
        self,
        image: str,
        arguments: Sequence[str],
        *,
        root: Path,
        environment: Mapping[str, str],
        read_only: Sequence[Path] = (),
        options: Sequence[str] = (),
    ) -> None:
        ensure_image(image)
        self._image = image
        self._root = root.resolve()
        self._exit_code: int | None = None
        self.name = new_name()
        command = ["run", "--detach", "--name", self.name, "--label", LABEL]
        command += ["--mount", f"type=bind,source={self._root},target={ML_ROOT}"]
        for directory in read_only:
            target = path_inside(root, directory)
            source = directory.resolve()
            command += ["--mount", f"type=bind,source={source},target={target},readonly"]
        for name, value in environment.items():
            command += ["--env", f"{name}={value}"]
        try:
            docker(*command, *options, image, *arguments)
            self._record = inspect_container(self.name)
        except BaseException:  # also Ctrl-C: what was created must not stay
            self._remove()
            raise
        self._output_file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- outlives this
        self._logs = _start_client(
            *("logs", "--follow", self.name), stdout=self._output_file, stderr=subprocess.STDOUT
        )
        self._waiter = _start_client(
            *("wait", self.name), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @property
    def process_id(self) -> int:
        return int(self._record["State"]["Pid"])

    @property
    def output_file(self) -> IO[bytes]:
        return self._output_file

    def address(self, port: int) -> tuple[str, int] | None:
        """Say how this machine reaches a port of the container, if it can."""
        return address_of(self._record, port)

    def wait(self, timeout_seconds: float) -> int | None:
        if self._exit_code is not None:
            return self._exit_code
        try:
            self._waiter.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        answer, complaint = self._waiter.communicate()  # a number or a line: no pipe fills up
        if not answer.strip().isdigit():
            raise EngineError(f"lost sight of {self.name}: {complaint.decode().strip()}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._logs.wait(LAST_OUTPUT_TIMEOUT_SECONDS)
        self._exit_code = int(answer)
        return self._exit_code

    def send_signal(self, signal_number: int) -> None:
        try:
            docker("kill", "--signal", signal.Signals(signal_number).name, self.name)
        except EngineError:
            if self._is_running():
                raise

    def process_ids(self) -> tuple[int, ...]:
        try:
            listing = docker("top", self.name, "-eo", "pid").splitlines()
        except EngineError:
            if self._is_running():
                raise
            return ()
        return tuple(sorted(int(line) for line in listing[1:]))  # below the heading

    def release(self) -> None:
        try:
            if self.wait(0) is None:
                self.send_signal(signal.SIGKILL)
                self.wait(KILL_TIMEOUT_SECONDS)
        finally:
            self._remove()
            for client in (self._logs, self._waiter):
                client.kill()
                client.communicate()
            reclaim(self._image, self._root)

    def _is_running(self) -> bool:
        return bool(inspect_container(self.name)["State"]["Running"])

    def _remove(self) -> None:
        try:
            docker("rm", "--force", "--volumes", self.name)
        except EngineError as error:
            if "No such container" not in str(error):
                raise


def new_name() -> str:
    """Choose a name that nothing of the engine has."""
    return f"{LABEL}-{uuid4().hex[:12]}"


def path_inside(root: Path, path: Path) -> str:
    """Say how a program in the container names a path below ``root``."""
    return str(PurePosixPath(ML_ROOT, path.relative_to(root)))


def reclaim(image: str, root: Path) -> None:
    """Give every file below ``root`` to the caller, who could not delete those of another user.

    Only root may give files away, so a container does it; for a caller who is root already, and
    where nothing is foreign, this does nothing.

    Raises:
        EngineError: the container failed, e.g. because the image has no ``chown``.
    """
    user, group = os.getuid(), os.getgid()
    if user == 0 or not _has_foreign_files(root, user):
        return
    owner = "0:0" if is_rootless() else f"{user}:{group}"
    mount = f"type=bind,source={root.resolve()},target={ML_ROOT}"
    docker(
        *("run", "--rm", "--label", LABEL, "--user", "0:0", "--network", "none", "--mount", mount),
        *("--entrypoint", "chown", image, "-R", "-h", owner, ML_ROOT),
    )


def _has_foreign_files(root: Path, user: int) -> bool:
    # A directory that cannot be listed is foreign itself, and met before what it holds.
    return any(
        os.lstat(os.path.join(parent, name)).st_uid != user
        for parent, directories, files in os.walk(root)
        for name in (*directories, *files)
    )


def _start_client(*arguments: str, stdout: int | IO[bytes], stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [docker_command(), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C in a terminal is the caller's to handle
    )
