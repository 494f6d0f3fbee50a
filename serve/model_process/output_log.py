"""Output of model processes: what a model's code prints becomes log lines with the model's name.

One thread of a worker reads the pipes of all its models. What exceeds the rate is read and thrown
away, and one line says how much: a model that prints a gigabyte neither waits nor fills the log.
"""

import contextlib
import os
import selectors
import threading
import time
from datetime import UTC, datetime

import orjson

from container import logs

_READ_BYTES = 2**16
# Of a model: what may be logged at once, and on average.
_BURST_BYTES = 2**18
_BYTES_PER_SECOND = 2**16
_MAX_LINE_BYTES = 3000  # a write of up to 4096 bytes is not mixed with those of other processes
_LINE_BYTES = 150  # of a log line beside its text
_LOGGER = "serve.model_process.output_log"


class OutputLog:
    """Reads the output of the model processes of one worker."""

    def __init__(self) -> None:
        """Start no thread yet, so that the process may still fork."""
        self._selector: selectors.BaseSelector | None = None
        self._new: list[_Output] = []
        self._lock = threading.Lock()
        self._wake_up, self._woken = -1, -1

    def watch(self, reader: int, model_name: str) -> None:
        """Log what arrives at `reader`, the read end of a pipe, and close it at its end."""
        os.set_blocking(reader, False)
        with self._lock:
            self._new.append(_Output(reader, model_name))
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
                self._woken, self._wake_up = os.pipe()
                self._selector.register(self._woken, selectors.EVENT_READ)
                threading.Thread(target=self._run, daemon=True, name="model-output").start()
        os.write(self._wake_up, b"+")

    def _run(self) -> None:
        selector = self._selector
        if selector is None:
            return
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    os.read(self._woken, _READ_BYTES)
                    with self._lock:
                        new, self._new = self._new, []
                    for output in new:
                        selector.register(output.reader, selectors.EVENT_READ, output)
                elif not key.data.read():
                    selector.unregister(key.fd)
                    os.close(key.fd)


class _Output:
    """The output of one model process."""

    def __init__(self, reader: int, model_name: str) -> None:
        self.reader = reader
        self._model_name = model_name
        self._incomplete = b""
        self._allowed = float(_BURST_BYTES)
        self._since = time.monotonic()
        self._n_dropped = 0

    def read(self) -> bool:
        """Read and log once; False at the end."""
        try:
            received = os.read(self.reader, _READ_BYTES)
        except BlockingIOError:
            return True
        now = time.monotonic()
        regained = (now - self._since) * _BYTES_PER_SECOND
        self._allowed = min(_BURST_BYTES, self._allowed + regained)
        self._since = now
        if self._n_dropped and (not received or self._allowed >= _BYTES_PER_SECOND):
            self._write({"n_bytes_dropped": self._n_dropped})
            self._n_dropped = 0
        cost = len(received) + _LINE_BYTES * received.count(b"\n")
        if cost > self._allowed:
            self._n_dropped += len(received)
            return True
        self._allowed -= cost
        self._log(received)
        return bool(received)

    def _log(self, received: bytes) -> None:
        """Log the lines that are complete, and at the end what is left."""
        *lines, self._incomplete = (self._incomplete + received).split(b"\n")
        if not received or len(self._incomplete) > _MAX_LINE_BYTES:
            lines.append(self._incomplete)
            self._incomplete = b""
        for line in lines:
            for start in range(0, len(line), _MAX_LINE_BYTES):
                piece = line[start : start + _MAX_LINE_BYTES]
                self._write({"text": piece.decode("utf-8", "backslashreplace")})

    def _write(self, facts: dict[str, object]) -> None:
        content = {
            "time": datetime.now(UTC),
            "level": "INFO",
            "logger": _LOGGER,
            "event": "model_output",
            "model_name": self._model_name,
            **facts,
        }
        with contextlib.suppress(TypeError):
            logs.write_lines(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))


LOG = OutputLog()
