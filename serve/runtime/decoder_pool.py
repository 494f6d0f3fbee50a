"""Pool of decoder processes, for formats whose native parser may crash on hostile bytes.

pyarrow's Parquet reader crashes on some broken files. In a separate process
(`serve.runtime.decoder`) only the request with the file fails, and not the worker with all its
other requests. The text formats, NPY, NPZ and recordio-protobuf are decoded in the worker: an hour
of fuzzing (`benchmarks/fuzz`) crashed no process.

Each worker has its own pool. The first such body starts a process. It is not forked, because a
worker has threads. The processes exit with the worker, which closes its end of their sockets.
"""

import contextlib
import json
import logging
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from container import codecs, content_types
from container.codecs.records import MAX_CELLS, Batch, Columns, Floats
from container.errors import (
    MalformedPayloadError,
    OutOfMemoryError,
    OverloadedError,
    PlatformError,
)
from serve.runtime.decoder import (
    ARRAYS,
    READY,
    Request,
    read_header,
    read_into,
    working_bytes,
    write_header,
)

logger = logging.getLogger(__name__)

ISOLATED_TYPES = frozenset({content_types.PARQUET})

_N_PROCESSES = 2
_MAX_SECONDS = 20.0
# For the wait for a decoder, and again for decoding: a worker is replaced if one of its threads is
# busy for longer than the timeout of invocations.
_SHARE_OF_TIMEOUT = 0.4
# A decoder exits at its time limit, and is killed this much later.
_GRACE_SECONDS = 2.0
_MAX_REPLY_BYTES = 2**16
_COMMAND = (sys.executable, "-P", "-m", "serve.runtime.decoder")
_PROGRAM_DIR = Path(__file__).parents[2]


class DecoderPool:
    """Decodes bodies in child processes; thread-safe."""

    def __init__(
        self,
        *,
        n_processes: int = _N_PROCESSES,
        max_seconds: float = _MAX_SECONDS,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """Start nothing yet, so that the owner may still be forked.

        Args:
            n_processes: The number of bodies that are decoded at once.
            max_seconds: Limit for decoding a body, and again for the wait before it.
            command: The command line of a decoder.
        """
        self.command = list(command)
        self._n_processes = n_processes
        self._max_seconds = max_seconds
        self._free = threading.BoundedSemaphore(n_processes)
        self._idle: list[_DecoderProcess] = []

    def limit_seconds(self, timeout_seconds: float) -> None:
        """Lower the time limits so that they fit into the timeout of invocations."""
        self._max_seconds = min(_MAX_SECONDS, timeout_seconds * _SHARE_OF_TIMEOUT)

    def decode(self, content_type: str, body: bytes, columns: Columns) -> Batch:
        """Decode a body whose records are dense.

        Raises:
            MalformedPayloadError: the codec refused the body, or the decoder crashed, or exceeded
                its limit of time or memory.
            OverloadedError: no decoder became free in time.
            OutOfMemoryError: the system killed the decoder for memory.
            PlatformError: no decoder can be started.
        """
        deadline = time.monotonic() + self._max_seconds
        if not self._free.acquire(timeout=self._max_seconds):
            raise self._overloaded()
        try:
            decoder = self._take()
            try:
                if not decoder.is_ready(deadline):
                    raise self._overloaded()
                return decoder.decode(content_type, body, columns, self._max_seconds)
            finally:
                if decoder.is_open:
                    self._idle.append(decoder)
        finally:
            self._free.release()

    def close(self) -> None:
        """Stop the idle processes."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> "_DecoderProcess":
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_alive():
                return decoder
            decoder.close()
        return _DecoderProcess(self.command)

    def _overloaded(self) -> OverloadedError:
        return OverloadedError("bodies being decoded", self._n_processes, "a fixed number a worker")


class _DecoderProcess:
    """One decoder process, used by one thread at a time."""

    def __init__(self, command: list[str]) -> None:
        self.is_open = True
        self._was_ready = False
        self._connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # messages of a C++ library that aborts
                    env=_environment(),
                )
            except OSError as error:
                self._connection.close()
                problem = f"a decoder process cannot be started: {error.strerror}"
                raise PlatformError(problem) from error

    def is_alive(self) -> bool:
        """True if the process runs."""
        return self._process.poll() is None

    def is_ready(self, deadline: float) -> bool:
        """Wait for readiness: the process has loaded its libraries.

        Args:
            deadline: By `time.monotonic`.
        Returns:
            False if the process was not ready at the deadline.
        Raises:
            PlatformError: the process has exited.
        """
        if self._was_ready:
            return True
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self._was_ready = self._connection.recv(len(READY)) == READY
        except TimeoutError:
            return False
        except OSError as error:
            logger.debug("decoder_not_ready", exc_info=error)
        if not self._was_ready:
            raise PlatformError(f"a decoder process ended at its start: {_ending(self.close())}")
        return True

    def decode(self, content_type: str, body: bytes, columns: Columns, seconds: float) -> Batch:
        """Send a body and receive its records; see `DecoderPool.decode`."""
        try:
            reply, batch = self._exchange(content_type, body, columns, seconds)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._failure(error, content_type, seconds) from error
        except BaseException:  # the rest of this reply would be taken for the next one
            self.close()
            raise
        if batch is not None:
            return batch
        if "problem" in reply:
            raise MalformedPayloadError(**reply)
        if "is_memory" in reply:
            raise MalformedPayloadError(
                f"the body takes more than {working_bytes()} bytes of memory to decode, the limit "
                "for one body; send fewer records at once"
            )
        raise RuntimeError(f"decoding {content_type} failed with {reply.get('failure')}")

    def close(self) -> int | None:
        """Stop the process; return its exit code, or None if it had to be killed."""
        self.is_open = False
        self._connection.close()
        try:
            return self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def _exchange(
        self, content_type: str, body: bytes, columns: Columns, seconds: float
    ) -> tuple[dict[str, Any], Batch | None]:
        self._connection.settimeout(seconds + _GRACE_SECONDS)
        # A process may exit before it has read the body; receiving the reply fails then.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            request = Request(content_type, columns, len(body), seconds)
            write_header(self._connection, pickle.dumps(tuple(request)))
            self._connection.sendall(body)
        reply = json.loads(read_header(self._connection, max_bytes=_MAX_REPLY_BYTES))
        batch = self._receive(reply["shapes"], columns) if "shapes" in reply else None
        return reply, batch

    def _receive(self, shapes: dict[str, list[int]], columns: Columns) -> Batch:
        n_rows, width = shapes["features"]
        if columns.n_features not in (None, width):
            raise ValueError(f"records of {width} features, not {columns.n_features}")
        arrays: dict[str, Floats] = {}
        for name, shape in shapes.items():
            is_right = name in ARRAYS and shape[0] == n_rows and math.prod(shape) <= MAX_CELLS
            if not is_right or min(shape) < 1:
                raise ValueError(f"an array {name!r} of shape {shape}")
            arrays[name] = np.empty(shape, dtype=np.float32)
            read_into(self._connection, arrays[name].data.cast("B"))
        return Batch(arrays["features"], arrays.get("labels"), arrays.get("weights"))

    def _failure(self, error: Exception, content_type: str, seconds: float) -> Exception:
        """Stop the process, and return the error for the missing reply."""
        code = self.close()
        facts = {"content_type": content_type, "reason": _ending(code)}
        logger.warning("decoder_ended", extra=facts)
        if isinstance(error, TimeoutError) or code == -signal.SIGALRM:
            return MalformedPayloadError(
                f"the body takes longer than {seconds:g} s to decode, the limit for one body; "
                "it is damaged, or has too many records: send fewer records at once"
            )
        if code == -signal.SIGKILL:
            return OutOfMemoryError(
                "the process that decoded the body was killed, probably because memory ran out; "
                "send fewer records at once"
            )
        return MalformedPayloadError(
            f"the body cannot be decoded as {content_type}: the decoder crashed "
            f"({_ending(code)}), as it does on broken files, and on some that take more than "
            f"{working_bytes()} bytes of memory; write the file again, or send fewer records"
        )


def _ending(code: int | None) -> str:
    if code is None:
        return "it did not answer"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    given = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_PROGRAM_DIR), *([given] if given else [])]),
        # Other memory pools reserve far more address space than they use; it counts as memory.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }


POOL = DecoderPool()


def decoder(content_type: str) -> codecs.Decoder:
    """The decoder of a content type: a process of the pool where the format's parser may crash.

    Args:
        content_type: A name without parameters.
    Raises:
        UnsupportedContentTypeError: no codec reads the type.
    """
    codec = codecs.decoder(content_type)
    return partial(_decode_isolated, content_type) if content_type in ISOLATED_TYPES else codec


def _decode_isolated(content_type: str, body: bytes, columns: Columns) -> Batch:
    return POOL.decode(content_type, body, columns)
