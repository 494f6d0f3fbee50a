import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.versions import Versions, is_settled


def test_writer_that_is_killed_half_way_leaves_the_registry_as_it_was(
    registry: Registry, versions: Versions, add: Callable[..., Model]
) -> None:
    """Frees the lock, undoes the change and distrusts the version (C-089)."""
    model = add("a")
    process_id = os.fork()
    if process_id == 0:
        own = Registry.__new__(Registry)
        own.__dict__.update(registry.__dict__, _own=threading.local())
        with own._writing() as connection, versions.change("a"):
            connection.execute("DELETE FROM models")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process_id, 0)

    assert registry.find("a") == model
    assert not is_settled(versions.cells[versions.index("a")])
    registry.remove("a")
    assert is_settled(versions.cells[versions.index("a")])


def _is_free(directory: Path) -> bool:
    """True if no process holds the lock of the registry in `directory`."""
    with (directory / "registry.lock").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_process_that_is_forked_during_a_change_does_not_get_the_lock(
    registry: Registry, tmp_path: Path
) -> None:
    """The lock is free when the writer is killed and its child lives (C-089)."""
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        with registry._writing():
            if os.fork() == 0:
                os.write(writing, str(os.getpid()).encode())
            time.sleep(60)
    child = int(os.read(reading, 20))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    try:
        assert _is_free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        os.close(writing)
