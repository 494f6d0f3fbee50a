"""The decoder process: decodes request bodies for a worker, with limits of memory and time.

    worker --pickled (content type, columns), body--> decoder
           <-- JSON header, float32 arrays ---------- decoder

Started by `serve.runtime.decoder_pool` as `python -m serve.runtime.decoder` with the socket as
standard input. It exits when the other end of the socket is closed. A header is preceded by its
length in 4 bytes. Requests come from the worker, which is trusted. Replies are JSON, because a
parser under the control of an attacker may write them.
"""

import contextlib
import json
import pickle
import resource
import signal
import socket
import struct
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from container import allocator, cgroup, codecs
from container.codecs.records import MAX_UNPACKED_BYTES, Batch, Columns, Floats
from container.errors import MalformedPayloadError

HEADER_LENGTH = struct.Struct("<I")
ARRAYS = ("features", "labels", "weights")  # of a dense `Batch`, in the order of the reply
READY = b"+"  # sent once: readiness, with the libraries loaded
# Memory limit beyond the body itself: twice the limit of the unpacked pages of a file. It stops a
# decompression bomb.
_WORKING_BYTES = 2 * MAX_UNPACKED_BYTES
_SHARE_OF_MEMORY = 4
_MAX_REQUEST_HEADER_BYTES = 2**28  # the header has the names of a model's features
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request(NamedTuple):
    """The header of a request; `n_bytes` of body follow."""

    content_type: str
    columns: Columns
    n_bytes: int
    seconds: float  # limit of the whole exchange


def working_bytes() -> int:
    """Return the memory limit beyond the body, in this container."""
    return min(_WORKING_BYTES, cgroup.memory_bytes() // _SHARE_OF_MEMORY)


def main() -> None:
    """Serve the socket at standard input until it is closed."""
    for number in _SIGNALS:  # meant for the server, which still answers requests
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # killed before a worker
    import pyarrow.parquet  # type: ignore[import-untyped] # noqa: F401 - before the memory limit

    n_bytes_at_start = _private_bytes()
    with socket.socket(fileno=0) as connection, contextlib.suppress(EOFError, OSError):
        connection.sendall(READY)
        while True:
            _answer(connection, n_bytes_at_start + working_bytes())
            allocator.release_free_memory()


def _answer(connection: socket.socket, max_bytes: int) -> None:
    """Decode one body, with `max_bytes` of memory in addition to the body itself."""
    header = read_header(connection, max_bytes=_MAX_REQUEST_HEADER_BYTES)
    request = Request(*pickle.loads(header))  # noqa: S301 - from the worker
    _limit_memory(max_bytes + request.n_bytes)
    # SIGALRM ends the process, also while the parser holds the interpreter.
    signal.setitimer(signal.ITIMER_REAL, request.seconds)
    body = bytearray(request.n_bytes)
    read_into(connection, memoryview(body))
    batch: Batch | None = None
    try:
        # The codecs of isolated formats take any buffer.
        batch = codecs.decoder(request.content_type)(cast(bytes, body), request.columns)
        reply = _described(batch)
    except MemoryError:
        reply = {"is_memory": True}
    except MalformedPayloadError as error:
        position = {name: getattr(error, name) for name in ("line", "record", "column")}
        reply = {"problem": error.problem} | position
    except Exception as error:  # noqa: BLE001 - sent to the worker, which logs it
        reply = {"failure": f"{type(error).__name__}: {error}"}
    del body
    write_header(connection, json.dumps(reply).encode())
    if batch is not None:
        for array in _arrays(batch).values():
            connection.sendall(array.data.cast("B"))
    signal.setitimer(signal.ITIMER_REAL, 0)


def _described(batch: Batch) -> dict[str, object]:
    return {"shapes": {name: array.shape for name, array in _arrays(batch).items()}}


def _arrays(batch: Batch) -> dict[str, Floats]:
    arrays = {name: getattr(batch, name) for name in ARRAYS}
    return {name: np.ascontiguousarray(each) for name, each in arrays.items() if each is not None}


def write_header(connection: socket.socket, header: bytes) -> None:
    """Send a header, preceded by its length."""
    connection.sendall(HEADER_LENGTH.pack(len(header)) + header)


def read_header(connection: socket.socket, *, max_bytes: int) -> bytes:
    """Receive a header.

    Raises:
        EOFError: the other end is closed.
        ValueError: the header is longer than `max_bytes`.
    """
    length = bytearray(HEADER_LENGTH.size)
    read_into(connection, memoryview(length))
    (n_bytes,) = HEADER_LENGTH.unpack(length)
    if n_bytes > max_bytes:
        raise ValueError(f"a header of {n_bytes} bytes")
    header = bytearray(n_bytes)
    read_into(connection, memoryview(header))
    return bytes(header)


def read_into(connection: socket.socket, memory: memoryview) -> None:
    """Receive until `memory` is full; raises `EOFError` if the other end is closed before."""
    while memory:
        n_bytes = connection.recv_into(memory)
        if not n_bytes:
            raise EOFError
        memory = memory[n_bytes:]


def _limit_memory(n_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        n_bytes = min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, hard))


def _private_bytes() -> int:
    """Return the memory that `RLIMIT_DATA` limits: private, writable, used or not."""
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("VmData:") + 1]) * 1024


if __name__ == "__main__":
    main()
