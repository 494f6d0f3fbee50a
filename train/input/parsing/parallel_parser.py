"""Chunks to batches, in this process alone at first, and with others when there is much to read.

Parsing holds Python's lock, so threads would not help. The processes are started afresh, not
forked: this one may have threads by then. Text goes to them and arrays come back through shared
memory; this process reads, and parses what the others have no room for.
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
    """How many processes beside this one are worth their memory."""
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
    if not n_processes:
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
    """What to expect of later chunks: the first dense record says how wide all are."""
    if isinstance(result, Batch) and not isinstance(result.features, SparseRows):
        return replace(columns, n_features=result.n_features)
    return columns


class _Processes:
    """Processes that parse, and this one, which does when the others are busy."""

    def __init__(self, content_type: str, columns: Columns, n_processes: int) -> None:
        self._decode = codecs.decoder(content_type)
        self._columns = columns
        self._processes = [_Process(content_type, columns) for _ in range(n_processes)]
        self._submitted: deque[tuple[Chunk, _Process | Batch | MalformedPayloadError]] = deque()
        logger.info("parsing_processes_started", extra={"n_processes": n_processes})

    def submit(self, chunk: Chunk) -> None:
        """Give a chunk to a process that can take it, or parse it here and now."""
        fits = len(chunk.data) <= _SLOT_BYTES
        free = next((each for each in self._processes if fits and each.can_take()), None)
        if free is None:
            result = _result(self._decode, chunk.data, self._columns)
            self._submitted.append((chunk, result))
        else:
            free.submit(chunk.data)
            self._submitted.append((chunk, free))

    def results(self, *, at_most_waiting: int) -> Iterator[Parsed]:
        """Results in the order of their chunks, until no more than so many are to come.

        What is ready comes in any case.
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
        """End the processes, whatever they are at."""
        for process in self._processes:
            process.close()


class _Process:
    """One process, the memory shared with it, and what it is to do."""

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
        """Whether it runs by now and has a slot free."""
        if not self._is_ready and self.has_result():
            self._receive()
            self._is_ready = True
        return self._is_ready and len(self._slots) < _SLOTS_EACH

    def has_result(self) -> bool:
        """Whether there is something to receive, if only the news of its death."""
        return bool(self._poll.poll(0))

    def submit(self, data: bytes) -> None:
        """Hand over text that fits; there must be a slot free."""
        slot = self._next_slot
        self._next_slot = (slot + 1) % _SLOTS_EACH
        self._slots.append(slot)
        start = slot * _SLOT_BYTES
        self._memory[start : start + len(data)] = data
        try:
            # So short that it never waits, not even for a process that waits to be heard.
            self._connection.send((slot, len(data)))
        except OSError as error:
            raise self._death() from error

    def next_result(self) -> Batch | MalformedPayloadError:
        """Wait for the result of what was submitted first, and free its slot."""
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
    """A descriptor for a process that is being started.

    Wrapped any earlier, it would be handed over through a socket below TMPDIR, whose path may be
    too long, and which stays behind when this process is killed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrap, (DupFd(self._descriptor),)


def _unwrap(descriptor: Any) -> Any:
    return descriptor


def _work(connection: Connection, memory_file: Any, content_type: str, columns: Columns) -> None:
    """The process: parses until the other end of the connection is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the job, though all may get them
        signal.signal(number, signal.SIG_IGN)
    descriptor = memory_file.detach()
    memory = memoryview(mmap.mmap(descriptor, 0))
    os.close(descriptor)
    decode = codecs.decoder(content_type)
    with contextlib.suppress(EOFError, OSError):  # the job goes on without it, or has ended
        connection.send("ready")
        while True:
            slot, n_bytes = connection.recv()
            place = memory[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES]
            result = _result(decode, bytes(place[:n_bytes]), columns)
            connection.send(_answer(result, place))


def _answer(result: Batch | MalformedPayloadError, place: memoryview) -> Any:
    """What to send for a result, whose arrays are put into the shared memory if they fit."""
    if isinstance(result, MalformedPayloadError):
        places = {name: getattr(result, name) for name in ("line", "record", "column")}
        return {"problem": result.problem} | places
    packed = batches.pack(result)
    if packed.n_bytes > len(place):
        return result
    offset = 0
    for buffer in packed.buffers:
        place[offset : offset + len(buffer)] = buffer
        offset += batches.padded(len(buffer))
    return packed.form, packed.lengths
