"""Parse chunks to batches: in this process at first, in a process pool when there is much to read.

Parsing holds the interpreter lock, so threads would not help. The processes are spawned, not
forked, since this process may have threads by then. Text goes to them and arrays come back through
shared memory. This process reads, and parses chunks itself when no process has a free slot
(backpressure).
"""

import contextlib
import logging
import mmap
import multiprocessing
import os
import select
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

from container import codecs
from container.codecs.records import Batch, Columns, SparseRows
from container.errors import AlgorithmError, MalformedPayloadError, PlatformError
from train.input.parsing import batches
from train.input.parsing.chunks import CHUNK_BYTES, Chunk

logger = logging.getLogger(__name__)

Parsed = tuple[Chunk, Batch | MalformedPayloadError]

# Processes are started behind this much text: one costs 0.25 s of CPU time, that of 100 MB of CSV.
_ALONE_BYTES = 64 * 2**20
# What a process takes, of which all together may take an eighth of the memory.
_PROCESS_BYTES = 64 * 2**20
_SHARE_OF_MEMORY = 8
_MAX_PROCESSES = 8
# Numbers of one digit take four times as much in memory as in text.
_SLOT_BYTES = 4 * CHUNK_BYTES
# One is parsed while the next one waits.
_SLOTS_EACH = 2
# Results that wait for an earlier one.
_MAX_WAITING = 16


def process_count(n_cpus: int, memory_bytes: int) -> int:
    """Return the number of parsing processes beside this one, limited by CPUs and memory."""
    affordable = memory_bytes // _SHARE_OF_MEMORY // _PROCESS_BYTES
    return max(0, min(n_cpus - 1, affordable, _MAX_PROCESSES))


def parse(
    chunks: Iterable[Chunk], content_type: str, columns: Columns, *, n_processes: int
) -> Generator[Parsed, None, None]:
    """Parse chunks, in their order; a chunk that cannot be read comes with its error.

    Raises:
        PlatformError: a process was killed.
        UnsupportedContentTypeError: there is no codec.
    """
    decode = codecs.decoder(content_type)
    n_bytes = 0
    rest = iter(chunks)
    for chunk in rest:
        result = _result(decode, chunk.data, columns)
        columns = _as_wide_as(result, columns)
        yield chunk, result
        n_bytes += len(chunk.data)
        if n_processes and n_bytes >= _ALONE_BYTES:
            break
    else:
        return
    with contextlib.closing(_Processes(content_type, columns, n_processes)) as processes:
        for chunk in rest:
            processes.submit(chunk)
            yield from processes.results(at_most_waiting=_MAX_WAITING)
        yield from processes.results(at_most_waiting=0)


def _result(decode: codecs.Decoder, data: bytes, columns: Columns) -> Batch | MalformedPayloadError:
    try:
        return decode(data, columns)
    except MalformedPayloadError as error:
        return error


def _as_wide_as(result: Batch | MalformedPayloadError, columns: Columns) -> Columns:
    """Return the columns of later chunks: all are as wide as the first dense record."""
    if isinstance(result, Batch) and not isinstance(result.features, SparseRows):
        return replace(columns, n_features=result.n_features)
    return columns


class _Processes:
    """Pool of parsing processes; this process parses when all others are busy."""

    def __init__(self, content_type: str, columns: Columns, n_processes: int) -> None:
        self._decode = codecs.decoder(content_type)
        self._columns = columns
        self._processes = [_Process(content_type, columns) for _ in range(n_processes)]
        self._submitted: deque[tuple[Chunk, _Process | Batch | MalformedPayloadError]] = deque()
        logger.info("parsing_processes_started", extra={"n_processes": n_processes})

    def submit(self, chunk: Chunk) -> None:
        """Send a chunk to a process with a free slot, or parse it in this process."""
        fits = len(chunk.data) <= _SLOT_BYTES
        free = next((each for each in self._processes if fits and each.can_take()), None)
        if free is None:
            result = _result(self._decode, chunk.data, self._columns)
            self._submitted.append((chunk, result))
        else:
            free.submit(chunk.data)
            self._submitted.append((chunk, free))

    def results(self, *, at_most_waiting: int) -> Iterator[Parsed]:
        """Yield results in the order of their chunks.

        Wait while more than `at_most_waiting` are outstanding; yield results that are ready in any
        case.
        """
        while self._submitted:
            chunk, result = self._submitted[0]
            if isinstance(result, _Process):
                if len(self._submitted) <= at_most_waiting and not result.has_result():
                    return
                result = result.next_result()
            self._submitted.popleft()
            yield chunk, result

    def close(self) -> None:
        """Kill and reap the processes."""
        for process in self._processes:
            process.close()


class _Process:
    """One parsing process, its shared memory and its queue of slots."""

    def __init__(self, content_type: str, columns: Columns) -> None:
        memory_file = os.memfd_create("chunks", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory_file, _SLOT_BYTES * _SLOTS_EACH)
            self._memory = mmap.mmap(memory_file, 0)
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_work,
                args=(theirs, _Inherited(memory_file), content_type, columns),
                name="parser",
                daemon=True,
            )
            self._process.start()
        finally:
            os.close(memory_file)
        theirs.close()
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)
        self._is_ready = False
        self._next_slot = 0
        self._slots: deque[int] = deque()

    def can_take(self) -> bool:
        """True if the process has started and has a free slot."""
        if not self._is_ready and self.has_result():
            self._receive()
            self._is_ready = True
        return self._is_ready and len(self._slots) < _SLOTS_EACH

    def has_result(self) -> bool:
        """True if `next_result` will not block; also if the process has exited."""
        return bool(self._poll.poll(0))

    def submit(self, data: bytes) -> None:
        """Send text that fits in a slot; `can_take` must be true."""
        slot = self._next_slot
        self._next_slot = (slot + 1) % _SLOTS_EACH
        self._slots.append(slot)
        start = slot * _SLOT_BYTES
        self._memory[start : start + len(data)] = data
        try:
            # Too short to block, even if the process itself is blocked on its answer.
            self._connection.send((slot, len(data)))
        except OSError as error:
            raise self._death() from error

    def next_result(self) -> Batch | MalformedPayloadError:
        """Wait for the result of the oldest chunk and free its slot."""
        slot = self._slots.popleft()
        answer = self._receive()
        if isinstance(answer, dict):
            return MalformedPayloadError(**answer)
        if isinstance(answer, Batch):
            return answer
        form, lengths = answer
        start = slot * _SLOT_BYTES
        end = start + sum(map(batches.padded, lengths))
        with memoryview(self._memory) as memory:
            copy = bytearray(memory[start:end])
        return batches.unpack(form, lengths, memoryview(copy))

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> PlatformError | AlgorithmError:
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            return AlgorithmError(f"internal error: a parsing process ended with status {code}")
        name = signal.Signals(-code).name
        hint = ", probably for the memory that it took" if name == "SIGKILL" else ""
        return PlatformError(f"a parsing process was killed by {name}{hint}")


class _Inherited:
    """File descriptor to pass to a process that is being spawned.

    `DupFd` must be made while the process is spawned. Any earlier, multiprocessing passes the
    descriptor through a socket below TMPDIR, whose path may be too long, and which a killed process
    leaves behind.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrap, (DupFd(self._descriptor),)


def _unwrap(descriptor: Any) -> Any:
    return descriptor


def _work(connection: Connection, memory_file: Any, content_type: str, columns: Columns) -> None:
    """Main function of a parsing process: parse until the connection is closed."""
    # The whole process group may receive these; only the job handles them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    descriptor = memory_file.detach()
    memory = memoryview(mmap.mmap(descriptor, 0))
    os.close(descriptor)
    decode = codecs.decoder(content_type)
    with contextlib.suppress(EOFError, OSError):  # the job has closed the pool, or has ended
        connection.send("ready")
        while True:
            slot, n_bytes = connection.recv()
            slot_memory = memory[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES]
            result = _result(decode, bytes(slot_memory[:n_bytes]), columns)
            connection.send(_answer(result, slot_memory))


def _answer(result: Batch | MalformedPayloadError, slot_memory: memoryview) -> Any:
    """Return the message for a result; its arrays go to the shared memory if they fit."""
    if isinstance(result, MalformedPayloadError):
        position = {name: getattr(result, name) for name in ("line", "record", "column")}
        return {"problem": result.problem} | position
    packed = batches.pack(result)
    if packed.n_bytes > len(slot_memory):
        return result
    offset = 0
    for buffer in packed.buffers:
        slot_memory[offset : offset + len(buffer)] = buffer
        offset += batches.padded(len(buffer))
    return packed.form, packed.lengths
