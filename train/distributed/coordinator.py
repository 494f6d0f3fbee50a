"""What the first host of a job runs for all: who is there, values from all to all, and verdicts.

    member -> hub   hello(host, hosts, version)   value(value)     failed(reason)    bye()
    hub -> member   welcome()                     values(values)   verdict(reason)

Every host is a member, the first one as well, over a connection of its own. When a member fails or
is lost, the hub waits a moment for a better explanation (a host that breaks off makes the others
fail, too), and then gives every member the same verdict.
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

from train.distributed.connection import Link, LostError, Message

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0  # for a better explanation of a lost host
_FAREWELL_SECONDS = 5.0  # for members to go when all is said
_ACCEPT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Greeting:
    """What all members of one job have in common."""

    hosts: tuple[str, ...]
    version: str

    def hello(self, host: str) -> Message:
        """The first message of a member."""
        return {"is": "hello", "host": host, "hosts": list(self.hosts), "version": self.version}


class Weight(IntEnum):
    """How well a report explains the end of the job; the lowest is believed."""

    CAUSE = 0
    LOST = 1  # a host is gone and could not say why
    CONSEQUENCE = 2  # a host noticed that another one is gone


class Hub:
    """Listens until every host has come, then serves them until they have gone.

    Args:
        listener: Bound and listening; closed by the hub.
        deadline: On the monotonic clock, when all hosts must have come.
    """

    def __init__(self, greeting: Greeting, listener: socket.socket, *, deadline: float) -> None:
        self._greeting = greeting
        self._listener = listener
        self._deadline = deadline
        self._changed = threading.Condition()  # guards everything below
        self._links: dict[str, Link] = {}
        self._gone: set[str] = set()
        self._values: dict[str, deque[Any]] = {host: deque() for host in greeting.hosts}
        self._reports: list[tuple[Weight, str]] = []
        self._verdict: Message | None = None
        self._is_closing = False
        _start(self._accept)
        _start(self._judge)

    def close(self) -> None:
        """Wait for the members to go, a few seconds at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._gone >= set(self._links), _FAREWELL_SECONDS)
            links = list(self._links.values())
        for link in links:
            link.close()

    def _accept(self) -> None:
        self._listener.settimeout(_ACCEPT_SECONDS)
        with self._listener:
            while missing := self._missing():
                if self._is_closing:
                    return
                if time.monotonic() > self._deadline:
                    names = ", ".join(map(repr, missing))
                    self._report(Weight.CAUSE, f"not there before BYOA_HOSTS_TIMEOUT: {names}")
                    return
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._listener.accept()
                    _start(self._serve, connection)

    def _missing(self) -> list[str]:
        with self._changed:
            return [host for host in self._greeting.hosts if host not in self._links]

    def _serve(self, connection: socket.socket) -> None:
        link = Link(connection)
        host = self._admit(link)
        if host is None:
            link.close()
            return
        is_leaving = False
        try:
            while True:
                message = link.receive()
                is_leaving = is_leaving or message == {"is": "bye"}
                self._handle(host, message)
        except LostError as error:
            if not is_leaving:
                self._report(Weight.LOST, gone(host, error))
        link.close()
        with self._changed:
            self._gone.add(host)
            self._changed.notify_all()

    def _admit(self, link: Link) -> str | None:
        """The host at the other end, or `None` for whoever does not belong to the job."""
        try:
            hello = link.receive()
        except LostError as error:
            logger.warning("stranger_ignored", extra={"reason": str(error)})
            return None
        host = hello.get("host")
        with self._changed:
            if hello.get("is") != "hello" or host not in self._missing():
                logger.warning("stranger_ignored", extra={"reason": f"calls itself {host!r:.100}"})
                return None
            self._links[host] = link
            link.send({"is": "welcome"})
            if self._verdict:  # it comes too late
                link.send(self._verdict)
        if hello != self._greeting.hello(host):
            self._report(
                Weight.CAUSE,
                f"host {host!r} has version {hello.get('version')} of this container and hosts "
                f"{hello.get('hosts')}; host {self._greeting.hosts[0]!r} has version "
                f"{self._greeting.version} and hosts {list(self._greeting.hosts)}",
            )
        logger.info("host_came", extra={"host": host, "address": link.address})
        return str(host)

    def _handle(self, host: str, message: Message) -> None:
        match message:
            case {"is": "value", "value": value}:
                self._pass_on(host, value)
            case {"is": "failed", "reason": str(reason), "is_cause": bool(is_cause)}:
                weight = Weight.CAUSE if is_cause else Weight.CONSEQUENCE
                self._report(weight, f"host {host!r}: {reason}")
            case {"is": "bye"}:
                pass
            case _:
                raise LostError("it sent a message that is not known")

    def _pass_on(self, host: str, value: Any) -> None:
        with self._changed:
            self._values[host].append(value)
            if not all(self._values.values()):
                return
            values = [given.popleft() for given in self._values.values()]
            for link in self._links.values():
                link.send({"is": "values", "values": values})

    def _report(self, weight: Weight, reason: str) -> None:
        with self._changed:
            self._reports.append((weight, reason))
            self._changed.notify_all()

    def _judge(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._reports or self._is_closing)
            if not self._reports:
                return
            self._changed.wait_for(self._knows_cause, GRACE_SECONDS)
            _, reason = min(self._reports, key=lambda report: report[0])
            self._verdict = {"is": "verdict", "reason": reason}
            links = dict(self._links)
            own = links.pop(self._greeting.hosts[0], None)
            for link in links.values():
                link.send(self._verdict)
                link.finish()
            # The first host last: the hub ends with its process.
            self._changed.wait_for(lambda: self._gone >= set(links), _FAREWELL_SECONDS)
            if own is not None:
                own.send(self._verdict)

    def _knows_cause(self) -> bool:
        return any(weight is Weight.CAUSE for weight, _ in self._reports)


def gone(host: str, error: LostError) -> str:
    """The reason of a job's end where a host can no longer tell it."""
    return f"host {host!r} is gone: {error}; it was killed, ran out of memory, or lost its network"


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()
