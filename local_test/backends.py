"""The two ways to run the verbs of an image, behind one interface.

``ProcessBackend`` starts plain processes, ``DockerBackend`` starts containers. Neither knows what
the program does: a command or an image is all they are given.

    ml = MlTree(directory).create()
    with ProcessBackend().start_server(ml) as server:
        invoke(server.url, b"1,2,3")
"""

import os
import random
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from local_test import docker_container
from local_test.docker_container import Container
from local_test.docker_engine import EngineError, can_publish, create_network, remove_network
from local_test.host_process import LOOPBACK, HostProcess, reserve_port
from local_test.hosts import RunningHosts
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from local_test.programs import READY_TIMEOUT_SECONDS, RunningProgram, RunningServer

DEFAULT_COMMAND = (sys.executable, "-m", "container")
PROGRAM_DIR = Path(__file__).resolve().parent.parent
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
DEFAULT_PORT = 8080
TRAINING_TIMEOUT_SECONDS = 600.0  # ours: the platform's default is a day
# A program finds its tools, its language and its certificates, and nothing else of the caller.
INHERITED_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


class Backend(ABC):
    """Runs a verb on a tree. ``environment`` is what the request to the service would hold."""

    __slots__ = ()

    def run_training(
        self,
        ml: MlTree,
        *,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = TRAINING_TIMEOUT_SECONDS,
    ) -> FinishedRun:
        """Run ``train`` to its end, whatever its exit code.

        Raises:
            ProgramTimeoutError: it did not end in time, and was killed.
        """
        return self.start_training(ml, environment=environment).finish(timeout_seconds)

    def start_training(
        self, ml: MlTree, *, environment: Mapping[str, str] | None = None
    ) -> RunningProgram:
        """Start ``train`` and return while it runs."""
        return self.start_program(ml, ("train",), environment=environment)

    def start_server(
        self,
        ml: MlTree,
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        wait_until_ready: bool = True,
        ready_timeout_seconds: float = READY_TIMEOUT_SECONDS,
    ) -> RunningServer:
        """Start ``serve``, by default returning once ``GET /ping`` answers 200.

        Args:
            environment: May hold SAGEMAKER_BIND_TO_PORT, to choose where the program listens.
            port: Where it is reached on the loopback interface of this machine; 0 means any free
                port. In process mode the two are the same port, and the variable wins.
        Raises:
            ServerStartError: it ended or was not ready in time, and was closed.
            PortInUseError, EngineError: the port is taken.
            UnreachableServerError: it is to be waited for, but no address leads to it.
        """
        server = self._start_server(ml, environment or {}, port)
        if wait_until_ready:
            try:
                server.wait_until_ready(ready_timeout_seconds)
            except BaseException:  # also Ctrl-C: the caller never gets what it could stop
                server.close()
                raise
        return server

    @abstractmethod
    def host_names(self, n_hosts: int) -> tuple[str, ...]:
        """Choose names by which the hosts of one job will find each other, sorted as text."""

    @abstractmethod
    def start_training_on_hosts(
        self, trees: Mapping[str, MlTree], *, environment: Mapping[str, str] | None = None
    ) -> RunningHosts:
        """Start ``train`` on every host and return while they run.

        Args:
            trees: As :func:`local_test.hosts.lay_out` makes them for ``host_names``.
        """

    @abstractmethod
    def start_program(
        self, ml: MlTree, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> RunningProgram:
        """Start the program with any arguments, also none or wrong ones."""

    @abstractmethod
    def path_inside(self, ml: MlTree, path: Path) -> str:
        """Say how the program names a path of the tree, e.g. as ``url`` in ``POST /models``."""

    @abstractmethod
    def reclaim(self, ml: MlTree) -> None:
        """Make every file of the tree the caller's own; closing a program does it, too."""

    @abstractmethod
    def _start_server(
        self, ml: MlTree, environment: Mapping[str, str], port: int
    ) -> RunningServer: ...


@dataclass(frozen=True, slots=True)
class ProcessBackend(Backend):
    """Runs ``command train|serve`` as processes of this machine, the tree in SAGEMAKER_BASE_DIR.

    Args:
        command: What the image's entry point would be.
        program_dir: The directory of its source: PYTHONPATH and working directory.
        inherited_variables: Names of the caller's variables that are passed on, where set.
    """

    command: tuple[str, ...] = DEFAULT_COMMAND
    program_dir: Path = PROGRAM_DIR
    inherited_variables: tuple[str, ...] = INHERITED_VARIABLES

    def host_names(self, n_hosts: int) -> tuple[str, ...]:
        """Choose loopback addresses, names that nobody has to make known.

        Every job has others, so that several can run at once. Linux only: elsewhere all but
        127.0.0.1 would have to be set up first.
        """
        network = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"  # noqa: S311
        return tuple(sorted(f"{network}.{index + 1}" for index in range(n_hosts)))

    def start_training_on_hosts(
        self, trees: Mapping[str, MlTree], *, environment: Mapping[str, str] | None = None
    ) -> RunningHosts:
        def start(host: str, tree: MlTree) -> RunningProgram:
            return self.start_training(tree, environment=environment)

        return RunningHosts(trees, start)

    def start_program(
        self, ml: MlTree, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> RunningProgram:
        variables = self._environment(ml, environment or {})
        return RunningProgram(self._start(arguments, variables, None))

    def path_inside(self, ml: MlTree, path: Path) -> str:
        return str(ml.root.resolve() / path.relative_to(ml.root))

    def reclaim(self, ml: MlTree) -> None:
        """Do nothing: a process writes as the caller."""

    def _start_server(self, ml: MlTree, environment: Mapping[str, str], port: int) -> RunningServer:
        reservation = None
        if BIND_TO_PORT in environment:
            port = int(environment[BIND_TO_PORT])
        else:
            port, reservation = reserve_port(port)
        variables = self._environment(ml, {**environment, BIND_TO_PORT: str(port)})
        process = self._start(("serve",), variables, reservation)
        return RunningServer(process, (LOOPBACK, port))

    def _start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        port_reservation: socket.socket | None,
    ) -> HostProcess:
        return HostProcess(
            (*self.command, *arguments),
            environment=environment,
            working_dir=self.program_dir,
            port_reservation=port_reservation,
        )

    def _environment(self, ml: MlTree, given: Mapping[str, str]) -> dict[str, str]:
        inherited = {
            name: os.environ[name] for name in self.inherited_variables if name in os.environ
        }
        return {
            **inherited,
            "PYTHONPATH": str(self.program_dir),
            "PYTHONSAFEPATH": "1",  # as `python -P` in an image: nothing of the working directory
            "SAGEMAKER_BASE_DIR": str(ml.root.resolve()),
            **given,
        }


@dataclass(frozen=True, slots=True)
class DockerBackend(Backend):
    """Runs ``docker run IMAGE train|serve`` with the tree mounted as ``/opt/ml``.

    A server has ``/opt/ml/model`` read-only, as on the platform.

    Args:
        options: More ``docker run`` options, e.g. ``("--memory", "512m", "--read-only")``.
    """

    image: str
    options: tuple[str, ...] = ()

    def host_names(self, n_hosts: int) -> tuple[str, ...]:
        """Choose ``algo-1``, ``algo-2``, …, as the platform does."""
        return tuple(sorted(f"algo-{index + 1}" for index in range(n_hosts)))

    def start_training_on_hosts(
        self, trees: Mapping[str, MlTree], *, environment: Mapping[str, str] | None = None
    ) -> RunningHosts:
        network = docker_container.new_name()
        create_network(network, docker_container.LABEL)

        def start(host: str, tree: MlTree) -> RunningProgram:
            options = ("--network", network, "--hostname", host, "--network-alias", host)
            backend = replace(self, options=(*self.options, *options))
            return backend.start_training(tree, environment=environment)

        return RunningHosts(trees, start, partial(remove_network, network))

    def start_program(
        self, ml: MlTree, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> RunningProgram:
        container = Container(
            self.image,
            arguments,
            root=ml.root,
            environment=environment or {},
            options=self.options,
        )
        return RunningProgram(container)

    def path_inside(self, ml: MlTree, path: Path) -> str:
        return docker_container.path_inside(ml.root, path)

    def reclaim(self, ml: MlTree) -> None:
        docker_container.reclaim(self.image, ml.root)

    def _start_server(self, ml: MlTree, environment: Mapping[str, str], port: int) -> RunningServer:
        container_port = int(environment.get(BIND_TO_PORT, DEFAULT_PORT))
        options = self.options
        if can_publish(options):
            options = ("--publish", f"{LOOPBACK}:{port or ''}:{container_port}", *options)
        container = Container(
            self.image,
            ("serve",),
            root=ml.root,
            environment=environment,
            read_only=[ml.model_dir] if ml.model_dir.is_dir() else [],
            options=options,
        )
        try:
            return RunningServer(container, container.address(container_port))
        except EngineError:
            container.release()
            container.output_file.close()
            raise
