"""Messages between workers and the fork server: JSON, one packet each, on a Unix socket."""

import json
import socket
from pathlib import Path
from typing import NamedTuple, TypeVar


class Task(NamedTuple):
    """Request of a worker."""

    directory: str
    model_name: str | None = None  # None for a validation run


class Answer(NamedTuple):
    """Answer of the fork server to a worker: the exit of the process that it asked for.

    After a validation run there is an `algorithm` if the model may be loaded. `status` is that of
    `os.waitpid`.
    """

    status: int
    is_late: bool
    algorithm: str = ""
    n_bytes: int = 0
    problem: str = ""
    is_memory: bool = False


class Success(NamedTuple):
    """Report of a model that may be loaded."""

    algorithm: str
    n_bytes: int


class Failure(NamedTuple):
    """Report of a model that is refused."""

    problem: str
    is_memory: bool


_Message = TypeVar("_Message", Answer, Success, Failure)


def decoded(kind: type[_Message], packet: bytes) -> _Message:
    """Decode a message in JSON.

    Raises:
        ValueError: it does not have the members of `kind`, or one has another type or is negative.
    """
    try:
        message = kind(**json.loads(packet))
    except (TypeError, RecursionError) as error:
        raise ValueError("not the members of the message") from error
    for value, expected in zip(message, kind.__annotations__.values(), strict=True):
        if type(value) is not expected or (isinstance(value, int) and value < 0):
            raise ValueError(f"{value!r} is no {expected.__name__}")
    return message


def socket_file(directory: Path) -> Path:
    """The Unix socket on which the fork server takes requests."""
    return directory / "fork-server.sock"


def is_listening(directory: Path) -> bool:
    """True if a server has its socket in `directory`, or if that cannot be told (yet)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(socket_file(directory)))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
