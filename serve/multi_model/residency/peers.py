"""What the workers tell each other: that a model is to be forgotten, and that it is.

Each worker listens on a socket of its own in a directory that all share. The socket of one that has
died refuses connections at once, so nobody waits for the dead.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

_SUFFIX = ".worker"
_DONE = b"done"

Forget = Callable[[str, int], Awaitable[None]]
"""Called with the name of a model and the last of its generations that is to be forgotten."""


class Peers:
    """The workers of this server; one object in each of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.own_name = f"{os.getpid()}-{secrets.token_hex(4)}"

    async def listen(self, forget: Forget) -> asyncio.Server:
        """Do what the others say, until the server that is returned is closed."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                name, generation = json.loads(await reader.readline())
                await forget(name, generation)
                writer.write(_DONE)
            except ValueError:
                pass  # the one who asked died in the middle of a word
            finally:
                writer.close()

        listener = self._listener()

        def let_go() -> None:
            """In what a model's code has forked, which must not pass for this process."""
            with contextlib.suppress(OSError):
                os.close(listener.detach())  # `close` would wait for uvloop to let go

        os.register_at_fork(after_in_child=let_go)
        return await asyncio.start_unix_server(answer, sock=listener)

    def is_alive(self, name: str) -> bool:
        """Whether the worker of that name lives."""
        with contextlib.suppress(OSError), _connected(self._path(name)):
            return True
        return False

    def tell_all(self, name: str, generation: int, *, timeout_seconds: float) -> bool:
        """Have every worker, this one too, forget a model; called in a thread.

        Returns:
            Whether all that live have done so in time.
        """
        message = json.dumps([name, generation]).encode() + b"\n"
        deadline = time.monotonic() + timeout_seconds
        asked = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            try:
                connection = _connected(path)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
                continue
            except OSError:
                continue
            with contextlib.suppress(OSError):  # it dies just now
                connection.sendall(message)
            asked.append(connection)
        return all([_is_done(connection, deadline) for connection in asked])

    def _listener(self) -> socket.socket:
        """A socket that others find once it listens: earlier, it would look like a dead one's."""
        listener = socket.socket(socket.AF_UNIX)
        unseen = self._directory / self.own_name
        listener.bind(str(unseen))
        listener.listen()
        unseen.rename(self._path(self.own_name))
        return listener

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _is_done(connection: socket.socket, deadline: float) -> bool:
    """Whether it answers in time, or dies, which is as good."""
    with connection:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            connection.recv(len(_DONE))
        except TimeoutError:
            return False
        except OSError:
            return True
    return True
