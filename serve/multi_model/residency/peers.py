"""Messages between workers: a worker asks all others to drop a model, and waits until they have.

Each worker listens on a Unix socket of its own in a shared directory. The socket of a worker that
has ended refuses connections at once, so it is not waited for.
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
"""Drops a model: called with its name and the last generation to drop."""


class Peers:
    """The workers of this server, as one of them sees them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.own_name = f"{os.getpid()}-{secrets.token_hex(4)}"

    async def listen(self, forget: Forget) -> asyncio.Server:
        """Answer the other workers until the returned server is closed.

        Args:
            forget: Idempotent: a worker may ask again.
        """

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                name, generation = json.loads(await reader.readline())
                await forget(name, generation)
                writer.write(_DONE)
            except ValueError:
                pass  # the worker that asked was killed in the middle of its message
            finally:
                writer.close()

        listener = self._listener()

        def close_listener() -> None:
            """Close the socket in a process that a model's code has forked: it is not a worker."""
            with contextlib.suppress(OSError):
                os.close(listener.detach())  # `close` would wait for uvloop to let go

        os.register_at_fork(after_in_child=close_listener)
        return await asyncio.start_unix_server(answer, sock=listener)

    def is_alive(self, name: str) -> bool:
        """True if the worker of that name listens."""
        with contextlib.suppress(OSError), _connected(self._path(name)):
            return True
        return False

    def forget_in_all(self, name: str, generation: int, *, timeout_seconds: float) -> bool:
        """Let every worker, this one too, drop a model; called in a thread.

        Returns:
            False if a worker that lives has not done so in time.
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
            with contextlib.suppress(OSError):  # the worker ends right now
                connection.sendall(message)
            asked.append(connection)
        return all([_is_done(connection, deadline) for connection in asked])

    def _listener(self) -> socket.socket:
        """Make the socket of this worker, under its final name only once it listens.

        Earlier it would refuse connections, as that of a worker that has ended does.
        """
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
    """True if the worker answers in time, or ends, which frees its models as well."""
    with connection:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            connection.recv(len(_DONE))
        except TimeoutError:
            return False
        except OSError:
            return True
    return True
