"""Cluster of the hosts of a job: `join` it, `gather` values, meet at a `barrier`.

A failure on one host ends the job on all hosts. The names of the hosts come from
`resourceconfig.json` alone; `join` looks each up until DNS knows it (C-023). The first host in the
order of the names runs the coordinator (`train/distributed/coordinator.py`). Every host connects to
it.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from container import __version__
from container.errors import ContainerError, HostError, PlatformError
from container.opt_ml import ResourceConfig
from container.settings import Settings
from train.distributed.connection import Connection, LostError
from train.distributed.coordinator import GRACE_SECONDS, Coordinator, Greeting, gone

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS = (0.1, 5.0)  # the first and the longest pause between two attempts
_CONNECT_SECONDS = 10.0
_VERDICT_SECONDS = 15.0  # longer than the coordinator takes to send one


class OneHost:
    """Cluster of one host; see `container.algorithms.training_contract.Cluster`."""

    hosts: tuple[str, ...]
    rank = 0
    address = "127.0.0.1"

    def __init__(self, host: str) -> None:
        self.hosts = (host,)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        """Return at once: there is no other host to wait for."""


class Member:
    """This host in a cluster of several; see `container.algorithms.training_contract.Cluster`.

    Use it as a context manager. An exception that leaves the context is reported to the other
    hosts. A failure of any host ends this process, whatever its threads are doing.

    Args:
        resources: The names of this host and of all hosts.
        connection: To the coordinator.
        explain: Converts an exception to the error that the other hosts are given.
        end: Called in a background thread with the reason why the whole job ends; it should not
            return.
    """

    def __init__(
        self,
        resources: ResourceConfig,
        connection: Connection,
        *,
        explain: Callable[[BaseException], ContainerError],
        end: Callable[[HostError], None],
    ) -> None:
        self.hosts = resources.hosts
        self.rank = self.hosts.index(resources.current_host)
        self.address = connection.address
        self._connection = connection
        self._explain = explain
        self._end = end
        self._changed = threading.Condition()
        self._gathered: list[list[Any]] = []
        self._is_leaving = False
        self._has_ended = threading.Event()
        threading.Thread(target=self._listen, name="hosts", daemon=True).start()

    def gather(self, value: Any) -> list[Any]:
        """See `container.algorithms.training_contract.Cluster.gather`."""
        self._connection.send({"is": "value", "value": value})
        with self._changed:
            self._changed.wait_for(lambda: bool(self._gathered))
            return self._gathered.pop(0)

    def barrier(self) -> None:
        """Block until every host of the job has called it as often as this one."""
        self.gather(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exception is None:
            self._is_leaving = True
            self._connection.send({"is": "bye"})
            self._connection.finish()
            return
        error = self._explain(exception)
        reason = error.message
        traceback_of = None if error is exception else exception
        logger.error("host_failed", extra={"reason": reason}, exc_info=traceback_of)
        is_cause = not isinstance(error, HostError)
        self._connection.send({"is": "failed", "reason": reason, "is_cause": is_cause})
        if not self._has_ended.wait(_VERDICT_SECONDS):
            self._end(HostError(f"host {self.hosts[self.rank]!r}: {reason}"))

    def _listen(self) -> None:
        """Read the messages of the coordinator until one of the two ends the job."""
        while True:
            try:
                message = self._connection.receive()
            except LostError as error:
                if not self._is_leaving and not self._has_ended.is_set():
                    # The platform may stop all hosts at once: SIGTERM reaches this one soon.
                    time.sleep(GRACE_SECONDS)
                    self._give_up(gone(self.hosts[0], error))
                return
            match message:
                case {"is": "values", "values": list(values)}:
                    with self._changed:
                        self._gathered.append(values)
                        self._changed.notify_all()
                case {"is": "verdict", "reason": str(reason)}:
                    self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self._end(HostError(reason))
        self._has_ended.set()


@contextmanager
def join(
    resources: ResourceConfig,
    settings: Settings,
    *,
    explain: Callable[[BaseException], ContainerError],
    end: Callable[[HostError], None],
) -> Iterator["OneHost | Member"]:
    """Connect to the other hosts and stay connected until the block ends.

    Args:
        explain: See `Member`.
        end: See `Member`.
    Raises:
        PlatformError: a name cannot be resolved or a host does not connect before the timeout, or
            the port is taken.
    """
    if len(resources.hosts) == 1:
        yield OneHost(resources.current_host)
        return
    deadline = time.monotonic() + settings.hosts_timeout_seconds
    greeting = Greeting(resources.hosts, __version__)
    with ExitStack() as stack:
        if resources.is_leader:
            listener = _listener(greeting.hosts[0], settings.hosts_port, deadline)
            stack.callback(Coordinator(greeting, listener, deadline=deadline).close)
        connection = _connect(resources, greeting, settings.hosts_port, deadline)
        stack.callback(connection.close)
        with Member(resources, connection, explain=explain, end=end) as member:
            member.barrier()
            logger.info("hosts_met", extra={"hosts": list(member.hosts), "rank": member.rank})
            yield member


def await_names(resources: ResourceConfig, settings: Settings) -> None:
    """Wait until the name of every host can be resolved, on a job of several hosts (C-023).

    Raises:
        PlatformError: a name cannot be resolved before the timeout.
    """
    deadline = time.monotonic() + settings.hosts_timeout_seconds
    for host in resources.hosts if len(resources.hosts) > 1 else ():
        problem = f"the name {host!r} cannot be resolved"
        _retry(partial(socket.getaddrinfo, host, None), problem, deadline)


def _listener(host: str, port: int, deadline: float) -> socket.socket:
    def look_up() -> Any:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    problem = f"the name {host!r} of this host cannot be resolved"
    family, kind, protocol, _, address = _retry(look_up, problem, deadline)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a job right after another
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise PlatformError(
            f"port {port} of host {host!r} ({address[0]}) cannot be listened on: "
            f"{error.strerror}; choose another port with BYOA_HOSTS_PORT"
        ) from error
    return listener


def _connect(
    resources: ResourceConfig, greeting: Greeting, port: int, deadline: float
) -> Connection:
    first = greeting.hosts[0]

    def introduce() -> Connection:
        connection = Connection(socket.create_connection((first, port), _CONNECT_SECONDS))
        connection.send(greeting.hello(resources.current_host))
        try:
            connection.receive()  # the welcome
        except LostError:
            connection.close()
            raise
        return connection

    return _retry(introduce, f"host {first!r} cannot be reached on port {port}", deadline)


def _retry(attempt: Callable[[], T], problem: str, deadline: float) -> T:
    """Retry with exponential backoff: names and hosts of a job come up at different times."""
    pause, longest = _PAUSE_SECONDS
    while True:
        try:
            return attempt()
        except (OSError, LostError) as error:
            if time.monotonic() + pause > deadline:
                raise PlatformError(
                    f"{problem}: {error}; gave up after BYOA_HOSTS_TIMEOUT. The hosts of a job "
                    "must resolve each other's names and reach each other on every port"
                ) from error
            logger.info("host_not_reached_yet", extra={"reason": f"{problem}: {error}"})
        time.sleep(pause)
        pause = min(2 * pause, longest)
