"""Coordinator of the hosts of a job: membership, all-gather, and one verdict when a host fails.

    member -> coordinator   hello(host, hosts, version)   value(value)     failed(reason)    bye()
    coordinator -> member   welcome()                     values(values)   verdict(reason)

The first host runs the coordinator. Every host is a member and has a connection to it, the first
host too. When a member fails or is lost, the coordinator waits a moment for a better explanation,
since a host that breaks off makes the others fail too. Then it sends every member the same verdict.
"""

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from train.distributed.connection import Connection, LostError, Message

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0  # for a better explanation of a lost host
_FAREWELL_SECONDS = 5.0  # for members to close their connections at the end
_ACCEPT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Greeting:
    """Facts that must be equal on all members of a job."""

    hosts: tuple[str, ...]
    version: str

    def hello(self, host: str) -> Message:
        """The first message of a member."""
        return {"is": "hello", "host": host, "hosts": list(self.hosts), "version": self.version}


class Weight(IntEnum):
    """Rank of a failure report; the verdict is the report with the lowest."""

    CAUSE = 0
    LOST = 1  # a host is gone and could not say why
    CONSEQUENCE = 2  # a host noticed that another one is gone


class Coordinator:
    """Server that accepts a connection from every host and serves it in a thread of its own.

    Args:
        greeting: Every member must send the same.
        listener: Bound and listening; the coordinator closes it.
        deadline: On the monotonic clock: when all hosts must have connected.
    """

    def __init__(self, greeting: Greeting, listener: socket.socket, *, deadline: float) -> None:
        self._greeting = greeting
        self._listener = listener
        self._deadline = deadline
        self._changed = threading.Condition()  # guards everything below
        self._connections: dict[str, Connection] = {}
        self._disconnected: set[str] = set()
        self._values: dict[str, deque[Any]] = {host: deque() for host in greeting.hosts}
        self._reports: list[tuple[Weight, str]] = []
        self._verdict: Message | None = None
        self._is_closing = False
        _start(self._accept)
        _start(self._send_verdict)

    def close(self) -> None:
        """Wait a few seconds at most for the members to disconnect, then close all connections."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._disconnected >= set(self._connections), _FAREWELL_SECONDS
            )
            connections = list(self._connections.values())
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        self._listener.settimeout(_ACCEPT_SECONDS)
        with self._listener:
            while missing := self._missing():
                if self._is_closing:
                    return
                if time.monotonic() > self._deadline:
                    names = ", ".join(map(repr, missing))
                    self._report(
                        Weight.CAUSE,
                        f"no connection within BYOA_HOSTS_TIMEOUT from {names}",
                    )
                    return
                with contextlib.suppress(TimeoutError):
                    sock, _ = self._listener.accept()
                    _start(self._serve, sock)

    def _missing(self) -> list[str]:
        with self._changed:
            return [host for host in self._greeting.hosts if host not in self._connections]

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock)
        host = self._admit(connection)
        if host is None:
            connection.close()
            return
        is_leaving = False
        try:
            while True:
                message = connection.receive()
                is_leaving = is_leaving or message == {"is": "bye"}
                self._handle(host, message)
        except LostError as error:
            if not is_leaving:
                self._report(Weight.LOST, gone(host, error))
        connection.close()
        with self._changed:
            self._disconnected.add(host)
            self._changed.notify_all()

    def _admit(self, connection: Connection) -> str | None:
        """Read the first message and return the name of the host; None for a stranger."""
        try:
            hello = connection.receive()
        except LostError as error:
            logger.warning("stranger_ignored", extra={"reason": str(error)})
            return None
        host = hello.get("host")
        with self._changed:
            if hello.get("is") != "hello" or host not in self._missing():
                reason = f"it sent no hello of a host that is missing; its host is {host!r:.100}"
                logger.warning("stranger_ignored", extra={"reason": reason})
                return None
            self._connections[host] = connection
            connection.send({"is": "welcome"})
            if self._verdict:  # the job has already failed
                connection.send(self._verdict)
        if hello != self._greeting.hello(host):
            self._report(
                Weight.CAUSE,
                f"host {host!r} has version {hello.get('version')} of this container and hosts "
                f"{hello.get('hosts')}; host {self._greeting.hosts[0]!r} has version "
                f"{self._greeting.version} and hosts {list(self._greeting.hosts)}",
            )
        logger.info("host_came", extra={"host": host, "address": connection.address})
        return str(host)

    def _handle(self, host: str, message: Message) -> None:
        match message:
            case {"is": "value", "value": value}:
                self._gather(host, value)
            case {"is": "failed", "reason": str(reason), "is_cause": bool(is_cause)}:
                weight = Weight.CAUSE if is_cause else Weight.CONSEQUENCE
                self._report(weight, f"host {host!r}: {reason}")
            case {"is": "bye"}:
                pass
            case _:
                raise LostError("it sent a message of an unknown kind")

    def _gather(self, host: str, value: Any) -> None:
        """Queue the value of a host; send a round of values when every host has one."""
        with self._changed:
            self._values[host].append(value)
            if not all(self._values.values()):
                return
            values = [queue.popleft() for queue in self._values.values()]
            for connection in self._connections.values():
                connection.send({"is": "values", "values": values})

    def _report(self, weight: Weight, reason: str) -> None:
        with self._changed:
            self._reports.append((weight, reason))
            self._changed.notify_all()

    def _send_verdict(self) -> None:
        """Wait for the first failure report, then end the job on every host for one reason."""
        with self._changed:
            self._changed.wait_for(lambda: self._reports or self._is_closing)
            if not self._reports:
                return
            self._changed.wait_for(self._knows_cause, GRACE_SECONDS)
            _, reason = min(self._reports, key=lambda report: report[0])
            self._verdict = {"is": "verdict", "reason": reason}
            connections = dict(self._connections)
            own = connections.pop(self._greeting.hosts[0], None)
            for connection in connections.values():
                connection.send(self._verdict)
                connection.finish()
            # The first host last: the coordinator runs in its process and ends with it.
            self._changed.wait_for(
                lambda: self._disconnected >= set(connections), _FAREWELL_SECONDS
            )
            if own is not None:
                own.send(self._verdict)

    def _knows_cause(self) -> bool:
        return any(weight is Weight.CAUSE for weight, _ in self._reports)


def gone(host: str, error: LostError) -> str:
    """Return the reason for the end of a job when a host has disconnected without one."""
    return f"host {host!r} is gone: {error}; it was killed, ran out of memory, or lost its network"


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()
