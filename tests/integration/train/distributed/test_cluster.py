"""Hosts of one job that meet, exchange values and end together, as threads of one process."""

import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from container.errors import (
    AlgorithmError,
    ChannelError,
    ContainerError,
    HostError,
    PlatformError,
)
from container.opt_ml import ResourceConfig
from container.settings import Settings
from train.distributed import cluster, coordinator
from train.distributed.cluster import Member, OneHost, join
from train.distributed.connection import Connection

TIMEOUT_SECONDS = 20.0
_networks = itertools.count(1)


def explain(error: BaseException) -> ContainerError:
    return error if isinstance(error, ContainerError) else AlgorithmError(repr(error))


@dataclass
class Hosts:
    """The hosts of one job, each with a thread that runs what the test gives it."""

    names: tuple[str, ...]
    settings: Settings
    results: "queue.Queue[tuple[str, Any]]" = field(default_factory=queue.Queue)
    verdicts: "queue.Queue[tuple[str, str]]" = field(default_factory=queue.Queue)

    def start(self, host: str, work: Callable[[OneHost | Member], Any]) -> None:
        def run() -> None:
            resources = ResourceConfig(host, self.names)
            try:
                end = self._end_of(host)
                with join(resources, self.settings, explain=explain, end=end) as member:
                    result = work(member)
            except Exception as error:  # noqa: BLE001 -- handed to the test
                result = error
            self.results.put((host, result))

        threading.Thread(target=run, daemon=True).start()

    def all_results(self, n: int) -> dict[str, Any]:
        return dict(self.results.get(timeout=TIMEOUT_SECONDS) for _ in range(n))

    def all_verdicts(self, n: int) -> dict[str, str]:
        return dict(self.verdicts.get(timeout=TIMEOUT_SECONDS) for _ in range(n))

    def _end_of(self, host: str) -> Callable[[HostError], None]:
        return lambda error: self.verdicts.put((host, error.message))


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Three hosts on loopback addresses that no other test of this process has."""
    monkeypatch.setattr(coordinator, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(coordinator, "_FAREWELL_SECONDS", 0.5)  # threads do not go as processes do
    monkeypatch.setattr(cluster, "GRACE_SECONDS", 0.5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    network = f"127.77.{next(_networks)}"
    names = tuple(f"{network}.{index}" for index in (1, 2, 3))
    return Hosts(names, Settings(hosts_port=port, hosts_timeout_seconds=10))


def wait_for_ever(member: OneHost | Member) -> None:
    threading.Event().wait()


def gather_for_ever(member: OneHost | Member) -> None:
    while True:
        member.gather("round")


def test_one_host_needs_no_network() -> None:
    """It opens no port and starts no thread (C-022)."""
    settings = Settings(hosts_port=1)
    with join(ResourceConfig(), settings, explain=explain, end=pytest.fail) as alone:
        assert (alone.hosts, alone.rank, alone.gather({"a": 1})) == (("localhost",), 0, [{"a": 1}])


def test_values_come_in_the_order_of_the_hosts(hosts: Hosts) -> None:
    """The order of joining and of calls does not matter."""

    def work(member: OneHost | Member) -> list[list[Any]]:
        time.sleep(0.1 * (2 - member.rank))
        return [member.gather([member.rank, n]) for n in range(50)]

    for host in reversed(hosts.names):
        hosts.start(host, work)
        time.sleep(0.2)

    expected = [[[0, n], [1, n], [2, n]] for n in range(50)]
    assert hosts.all_results(3) == dict.fromkeys(hosts.names, expected)
    assert hosts.verdicts.empty()


def test_no_host_passes_a_barrier_before_all_have_reached_it(hosts: Hosts) -> None:
    """The last host to arrive releases all."""
    reached: set[int] = set()

    def work(member: OneHost | Member) -> int:
        time.sleep(0.2 * member.rank)
        reached.add(member.rank)
        member.barrier()
        return len(reached)

    for host in hosts.names:
        hosts.start(host, work)

    assert hosts.all_results(3) == dict.fromkeys(hosts.names, 3)


def test_every_host_has_the_address_of_the_first_host(hosts: Hosts) -> None:
    """The address is that of its name."""
    for host in hosts.names:
        hosts.start(host, lambda member: (member.rank, member.address))

    first = hosts.names[0]
    assert hosts.all_results(3) == {host: (n, first) for n, host in enumerate(hosts.names)}


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_failure_of_one_host_ends_all(hosts: Hosts, failing: int) -> None:
    """Every host, at any stage, reports the name and the reason of the one that failed (C-027)."""

    def fail(member: OneHost | Member) -> None:
        raise ChannelError("file 'a.csv': line 3")

    works = [gather_for_ever, wait_for_ever]
    works.insert(failing, fail)
    for host, work in zip(hosts.names, works, strict=True):
        hosts.start(host, work)

    reason = f"host '{hosts.names[failing]}': file 'a.csv': line 3"
    assert hosts.all_verdicts(3) == dict.fromkeys(hosts.names, reason)


def test_unexpected_error_is_reported_as_such(hosts: Hosts) -> None:
    """The error of the host names the cause for the job owner."""

    def fail(member: OneHost | Member) -> None:
        raise ZeroDivisionError("division by zero")

    for host, work in zip(hosts.names, (wait_for_ever, fail, wait_for_ever), strict=True):
        hosts.start(host, work)

    assert "ZeroDivisionError('division by zero')" in hosts.all_verdicts(3)[hosts.names[0]]


def test_verdict_is_the_cause_and_not_a_consequence(hosts: Hosts) -> None:
    """A host that notices first that another one broke off does not know why."""

    def notice(member: OneHost | Member) -> None:
        raise HostError("the connection to another host broke while training")

    def fail(member: OneHost | Member) -> None:
        time.sleep(0.2)
        raise ChannelError("the cause")

    for host, work in zip(hosts.names, (notice, notice, fail), strict=True):
        hosts.start(host, work)

    assert set(hosts.all_verdicts(3).values()) == {f"host '{hosts.names[2]}': the cause"}


def greet(hosts: Hosts, host: str, **changes: Any) -> Connection:
    """Connect and send the hello of a host, as the test controls it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    address = (hosts.names[0], hosts.settings.hosts_port)
    while True:
        try:
            connection = Connection(socket.create_connection(address))
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    hello = coordinator.Greeting(hosts.names, cluster.__version__).hello(host)
    connection.send(hello | changes)
    return connection


@pytest.mark.parametrize("lost", [1, 2])
def test_host_that_is_gone_is_named(hosts: Hosts, lost: int) -> None:
    """Names a killed host, whose connection ends without a farewell, on all other hosts."""
    others = [name for index, name in enumerate(hosts.names) if index != lost]
    for host in others:
        hosts.start(host, gather_for_ever)
    connection = greet(hosts, hosts.names[lost])
    connection.send({"is": "value", "value": None})
    connection.receive()

    connection.close()

    verdicts = hosts.all_verdicts(2)
    assert set(verdicts) == set(others)
    assert all(f"host '{hosts.names[lost]}' is gone" in text for text in verdicts.values())


def test_strangers_neither_join_nor_disturb(hosts: Hosts) -> None:
    """Any client can reach the port: garbage, silence, other names, a name that is taken."""

    def first(member: OneHost | Member) -> list[Any]:
        return member.gather(member.rank)

    hosts.start(hosts.names[0], first)
    strangers = [greet(hosts, "algo-9"), greet(hosts, hosts.names[0], **{"is": "bye"})]
    silent = socket.create_connection((hosts.names[0], hosts.settings.hosts_port))
    garbage = socket.create_connection((hosts.names[0], hosts.settings.hosts_port))
    garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
    hosts.start(hosts.names[1], first)
    time.sleep(0.5)
    strangers.append(greet(hosts, hosts.names[1]))  # is here already

    hosts.start(hosts.names[2], first)

    assert hosts.all_results(3) == {host: [0, 1, 2] for host in hosts.names}
    for connection in strangers:
        connection.close()
    for connection in (silent, garbage):
        connection.close()


def test_host_of_another_version_ends_the_job(hosts: Hosts) -> None:
    """Two versions may differ in their messages or in their trees."""
    hosts.start(hosts.names[0], wait_for_ever)

    connection = greet(hosts, hosts.names[1], version="0.0.1")

    assert "has version 0.0.1 of this container" in hosts.all_verdicts(1)[hosts.names[0]]
    connection.close()


def test_host_that_never_connects_is_named(hosts: Hosts) -> None:
    """The operator sets the timeout."""
    hosts.settings = Settings(hosts_port=hosts.settings.hosts_port, hosts_timeout_seconds=1)
    hosts.start(hosts.names[1], wait_for_ever)
    hosts.start(hosts.names[0], wait_for_ever)

    verdicts = hosts.all_verdicts(2)

    expected = f"no connection within BYOA_HOSTS_TIMEOUT from '{hosts.names[2]}'"
    assert set(verdicts.values()) == {expected}


def test_name_resolution_is_retried(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's names may not resolve at first (C-023)."""
    known = iter([False, False, False])
    look_up = socket.getaddrinfo

    def late(*arguments: Any, **options: Any) -> Any:
        if not next(known, True):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    for host in hosts.names:
        hosts.start(host, lambda member: member.rank)

    assert hosts.all_results(3) == {host: n for n, host in enumerate(hosts.names)}


@pytest.mark.parametrize("rank", [0, 1])
def test_name_that_stays_unknown_is_an_error(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """The message has the name, what the resolver said, and the setting."""

    def never(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    hosts.settings = Settings(hosts_timeout_seconds=1)
    hosts.start(hosts.names[rank], wait_for_ever)

    [error] = hosts.all_results(1).values()

    assert isinstance(error, PlatformError)
    for part in (hosts.names[0], "Name or service not known", "BYOA_HOSTS_TIMEOUT"):
        assert part in error.message


def test_port_that_is_taken_is_an_error(hosts: Hosts) -> None:
    """The message says which, and how to choose another one."""
    address = (hosts.names[0], hosts.settings.hosts_port)
    with socket.create_server(address):
        hosts.start(hosts.names[0], wait_for_ever)
        [error] = hosts.all_results(1).values()

    assert isinstance(error, PlatformError)
    assert f"port {address[1]}" in error.message
    assert "BYOA_HOSTS_PORT" in error.message
