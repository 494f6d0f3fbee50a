"""The hosts of a job as one host sees them: `join`, `gather`, and the end of one is that of all.

Names come from `resourceconfig.json` alone and are looked up until they are known (C-023). The
first host in the order of the names runs the hub (`train/distributed/coordinator.py`), to which
every host connects.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from container import __version__
from container.errors import ContainerError, HostError, PlatformError
from container.opt_ml import ResourceConfig
from container.settings import Settings
from train.distributed.connection import Link, LostError
from train.distributed.coordinator import GRACE_SECONDS, Greeting, Hub, gone

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS = (0.1, 5.0)  # between two tries, the first and the longest
_CONNECT_SECONDS = 10.0
_VERDICT_SECONDS = 15.0  # longer than the hub takes for one


class OneHost:
    """A job on one host; see `container.algorithms.contract.Cluster`."""

    hosts: tuple[str, ...]
    rank = 0
    address = "127.0.0.1"

    def __init__(self, host: str) -> None:
        self.hosts = (host,)

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Member:
    """A job on several hosts, seen from one; see `container.algorithms.contract.Cluster`.

    As a context it takes part in the job: an exception that leaves it is told to the other hosts,
    and what ends any of them ends this process, whatever its threads are doing.

    Args:
        explain: Puts an exception in the words that the other hosts are told.
        end: Called in a thread of this object with the reason of the whole job's end; it should
            not return.
    """

    def __init__(
        self,
        resources: ResourceConfig,
        link: Link,
        *,
        explain: Callable[[BaseException], ContainerError],
        end: Callable[[HostError], None],
    ) -> None:
        self.hosts = resources.hosts
        self.rank = self.hosts.index(resources.current_host)
        self.address = link.address
        self._link = link
        self._explain = explain
        self._end = end
        self._changed = threading.Condition()
        self._answers: list[list[Any]] = []
        self._is_leaving = False
        self._has_ended = threading.Event()
        threading.Thread(target=self._listen, name="hosts", daemon=True).start()

    def gather(self, value: Any) -> list[Any]:
        """See `container.algorithms.contract.Cluster.gather`."""
        self._link.send({"is": "value", "value": value})
        with self._changed:
            self._changed.wait_for(lambda: bool(self._answers))
            return self._answers.pop(0)

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
            self._link.send({"is": "bye"})
            self._link.finish()
            return
        error = self._explain(exception)
        reason = error.message
        traceback_of = None if error is exception else exception
        logger.error("host_failed", extra={"reason": reason}, exc_info=traceback_of)
        is_cause = not isinstance(error, HostError)
        self._link.send({"is": "failed", "reason": reason, "is_cause": is_cause})
        if not self._has_ended.wait(_VERDICT_SECONDS):
            self._end(HostError(f"host {self.hosts[self.rank]!r}: {reason}"))

    def _listen(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except LostError as error:
                if not self._is_leaving and not self._has_ended.is_set():
                    # When all hosts are stopped at once, this one's own SIGTERM is a moment away.
                    time.sleep(GRACE_SECONDS)
                    self._give_up(gone(self.hosts[0], error))
                return
            match message:
                case {"is": "values", "values": list(values)}:
                    with self._changed:
                        self._answers.append(values)
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
    """Meet the other hosts, and take part in the job until the block ends.

    Args:
        explain: See `Member`.
        end: Likewise.
    Raises:
        PlatformError: a name is not known or a host is not there in time, or the port is taken.
    """
    if len(resources.hosts) == 1:
        yield OneHost(resources.current_host)
        return
    deadline = time.monotonic() + settings.hosts_timeout_seconds
    greeting = Greeting(resources.hosts, __version__)
    with ExitStack() as stack:
        if resources.is_leader:
            listener = _listener(greeting.hosts[0], settings.hosts_port, deadline)
            stack.callback(Hub(greeting, listener, deadline=deadline).close)
        link = _connect(resources, greeting, settings.hosts_port, deadline)
        stack.callback(link.close)
        with Member(resources, link, explain=explain, end=end) as member:
            member.gather(None)  # all are there
            logger.info("hosts_met", extra={"hosts": list(member.hosts), "rank": member.rank})
            yield member


def _listener(host: str, port: int, deadline: float) -> socket.socket:
    def look_up() -> Any:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    problem = f"the name {host!r} of this host cannot be looked up"
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


def _connect(resources: ResourceConfig, greeting: Greeting, port: int, deadline: float) -> Link:
    first = greeting.hosts[0]

    def introduce() -> Link:
        link = Link(socket.create_connection((first, port), _CONNECT_SECONDS))
        link.send(greeting.hello(resources.current_host))
        try:
            link.receive()  # the welcome
        except LostError:
            link.close()
            raise
        return link

    return _retry(introduce, f"host {first!r} cannot be reached on port {port}", deadline)


def _retry(attempt: Callable[[], T], problem: str, deadline: float) -> T:
    """Try until it works: names and hosts of a job come up at different times."""
    pause, longest = _PAUSE_SECONDS
    while True:
        try:
            return attempt()
        except (OSError, LostError) as error:
            if time.monotonic() + pause > deadline:
                raise PlatformError(
                    f"{problem}: {error}; tried until BYOA_HOSTS_TIMEOUT was over. The hosts of a "
                    "job must know each other's names and reach each other on every port"
                ) from error
            logger.info("host_not_reached_yet", extra={"reason": f"{problem}: {error}"})
        time.sleep(pause)
        pause = min(2 * pause, longest)
