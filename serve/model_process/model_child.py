"""The model process: loads one model with its code, then answers invocations of it, in turn.

    worker --frame: invocation--> model process
           <--frame: answer------

A stream is requested piece by piece, so that other invocations run between two pieces and a stream
that nobody reads is not made. All runs in the main thread, as in any program: signal handlers,
`asyncio.run`, and objects that belong to the thread that made them.
"""

import contextlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.invocation import Answer, Invocation, Servable
from serve.model_process import containment, descendants, error_transfer
from serve.model_process.frames import Channel
from serve.user_code.context import checked_header
from serve.user_code.script_artifact import ScriptArtifact

_REMOVED = "the script was removed from the model meanwhile"


class Start(NamedTuple):
    """The start of a model process."""

    directory: Path  # of the model
    model_name: str
    working_directory: Path | None  # empty, and its own
    user: int  # index of the user that it may become
    soft_descriptors: int  # limit of open descriptors


def run_and_exit(start: Start, settings: Settings, connection: int, output: int) -> NoReturn:
    """Be the model process, in a child of the fork server.

    Args:
        start: The model.
        settings: Of the server.
        connection: Descriptor of the socket to the worker.
        output: Write end of the pipe for what the code prints.
    """
    try:
        logging.disable(logging.CRITICAL)  # the worker has logged what is in the directory
        worker = Channel(socket.socket(fileno=containment.own_streams(connection, output)))
        reason = _contain(start, settings)
        _serve(worker, start, settings, reason)
    except (EOFError, OSError):
        pass  # the worker has ended, or gives up this model
    finally:
        os._exit(0)


def _contain(start: Start, settings: Settings) -> str:
    """Put up the walls; return why the process has no user of its own, if so."""
    containment.contain(b"model-process")
    descendants.adopt_orphans()
    containment.limit_descriptors(start.soft_descriptors)
    containment.enter(start.working_directory)
    reason = ""
    if settings.is_multi_model:
        containment.limit_memory()
        reason = containment.own_user(start.user, start.directory, start.working_directory)
    if "numpy" in sys.modules:  # all models would have the same random numbers
        sys.modules["numpy"].random.seed()
    return reason


def _serve(worker: Channel, start: Start, settings: Settings, shared_user: str) -> None:
    """Load the model, report it, and answer until the worker closes the connection."""
    before = _private_bytes()
    try:
        loadable = loading.inspect(start.directory, settings, model_name=start.model_name)
        containment.own_signals_and_log(settings.log_level)
        if not isinstance(loadable, ScriptArtifact):
            raise ModelLoadError(_REMOVED)  # noqa: TRY301 - reported like any other
        servable = loadable.load()
    except BaseException as error:  # noqa: BLE001 - reported to the worker, also SystemExit
        _flush()
        worker.send({"error": error_transfer.packed(error)})
        return
    _flush()
    worker.send(
        {
            "facts": servable.facts,
            "has_own_formats": servable.has_own_formats,
            "n_bytes": max(_private_bytes(), before),
            "shared_user": shared_user,
        }
    )
    invocations = _Invocations(servable)
    while True:
        header, body = worker.receive()
        reply, content = invocations.answer(header, body)
        _flush()
        worker.send(reply, content)
        del header, body, reply, content


class _Invocations:
    """Invocations of the model, and the streams that are not at their end."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self._streams: dict[int, Generator[bytes, None, None]] = {}
        self._numbers = itertools.count(1)

    def answer(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Do what a frame of the worker asks for; returns the frame of the reply."""
        try:
            if "next" in header:
                return self._next(header["next"])
            if "close" in header:
                self._streams.pop(header["close"]).close()
                return {"end": True}, b""
            return self._invoke(header, body)
        except BaseException as error:  # noqa: BLE001 - reported to the worker, also SystemExit
            return {"error": error_transfer.packed(error)}, b""

    def _invoke(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        headers = {
            name.encode("latin-1"): value.encode("latin-1")
            for name, value in header["headers"].items()
        }
        invocation = Invocation(
            body, header["content_type"], header["accept"], headers, header["request_id"]
        )
        answer = self._servable.invoke(invocation)
        if answer.content_type:  # the worker would take a bad one for a forgery
            checked_header("content-type", answer.content_type)
        if isinstance(answer.body, bytes):
            return _described(answer), answer.body
        number = next(self._numbers)
        self._streams[number] = answer.body
        return _described(answer) | {"stream": number}, b""

    def _next(self, number: int) -> tuple[dict[str, Any], bytes]:
        stream = self._streams[number]
        try:
            return {}, next(stream)
        except StopIteration:
            del self._streams[number]
            return {"end": True}, b""
        except BaseException:
            del self._streams[number]
            raise


def _described(answer: Answer) -> dict[str, Any]:
    """Return an answer without its body."""
    return {
        "content_type": answer.content_type,
        "n_rows": int(answer.n_rows),
        "stages": answer.stages,
        "status": answer.status,
        "headers": answer.headers,
    }


def _flush() -> None:
    """Hand over what the code has printed, before its answer."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the code may have put anything there, or closed it
            stream.flush()


def _private_bytes() -> int:
    """Return the memory that only this process has; 0 where the kernel does not tell."""
    try:
        fields = Path("/proc/self/smaps_rollup").read_text().split()
    except OSError:
        return 0
    names = ("Private_Clean:", "Private_Dirty:", "Swap:")
    return sum(int(fields[fields.index(name) + 1]) * 1024 for name in names if name in fields)
