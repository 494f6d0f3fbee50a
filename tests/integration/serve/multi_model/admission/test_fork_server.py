"""The fork server and the admission check that asks it, with processes that really die."""

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xgboost

from container import cgroup
from container.algorithms import registry as algorithms
from container.errors import ModelLoadError, OutOfMemoryError, PlatformError
from container.settings import Settings
from serve.model_process import fork_server as fork_server_module
from serve.model_process import model_process
from serve.model_process.fork_messages import is_listening, socket_file
from serve.model_process.fork_server import ForkServer
from serve.model_process.model_process import ModelProcess
from serve.multi_model import model_files
from serve.multi_model.admission import admission_check, model_validation
from serve.multi_model.admission.admission_check import Admitted
from serve.multi_model.model_registry import Registry
from serve.multi_model.residency.model_loader import ModelLoader
from tests.waiting import PATIENCE_SECONDS, wait_for

SETTINGS = Settings(is_multi_model=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    return model


@contextmanager
def running(directory: Path) -> Iterator[ForkServer]:
    """Run a fork server of this process; end and reap it afterwards."""
    server = ForkServer(directory, SETTINGS, n_at_once=2, validate=model_validation.report)
    server.keep_running()
    try:
        yield server
    finally:
        server.stop()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(server.process_id, 0)


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[ForkServer]:
    algorithms.preload()
    with running(tmp_path) as server:
        yield server


class Admission(admission_check.Admission):
    """Ends the processes of models with code that it has admitted, when it is closed."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        super().__init__(directory, registry, ModelLoader(directory, registry, SETTINGS), SETTINGS)
        self.processes: list[ModelProcess] = []

    def admit(self, directory: Path, name: str = "m") -> Admitted:
        admitted = super().admit(directory, name)
        if admitted.process is not None:
            self.processes.append(admitted.process)
        return admitted

    def close(self) -> None:
        for process in self.processes:
            process.close()


@pytest.fixture
def admission(tmp_path: Path, registry: Registry, fork_server: ForkServer) -> Iterator[Admission]:
    with contextlib.closing(Admission(tmp_path, registry)) as admission:
        yield admission


def write_script(directory: Path, text: str) -> None:
    (directory / "code" / "inference.py").write_text(f"import os, signal, time\n{text}\n")


def booster() -> xgboost.Booster:
    rng = np.random.default_rng(1)
    matrix = xgboost.DMatrix(rng.normal(size=(4000, 20)), rng.normal(size=4000))
    return xgboost.train({"max_depth": 10, "min_child_weight": 0, "nthread": 1}, matrix, 6)


def test_size_is_what_the_model_takes(directory: Path, admission: Admission) -> None:
    """The size is measured in the process, not guessed from the file (C-081)."""
    write_script(
        directory,
        "def model_fn(d):\n    return bytearray(50 * 2**20)\ndef predict_fn(data, model): pass",
    )

    admitted = admission.admit(directory)

    assert admitted.algorithm == "code"
    assert 50 * 2**20 <= admitted.n_bytes < 75 * 2**20


def test_xgboost_model_takes_about_as_much_as_a_booster(
    directory: Path, admission: Admission
) -> None:
    """The memory that reading and checking the file takes for a moment is not counted (C-081)."""
    content = bytes(booster().save_raw("ubj"))
    (directory / "xgboost-model").write_bytes(content)

    admitted = admission.admit(directory)

    assert admitted.algorithm == "xgboost"
    assert 0.5 * len(content) < admitted.n_bytes < 3 * len(content)


def test_verdict_is_remembered_by_digest(
    directory: Path, admission: Admission, fork_server: ForkServer, tmp_path: Path
) -> None:
    """The fork server is asked once about the same bytes, wherever they lie (C-082)."""
    (directory / "xgboost-model").write_bytes(pickle.dumps(booster()))
    other = tmp_path / "other"
    (other / "code").mkdir(parents=True)
    (other / "xgboost-model").write_bytes((directory / "xgboost-model").read_bytes())
    first = admission.admit(directory)
    fork_server.stop()

    again = admission.admit(other)

    assert (again.digest, again.n_bytes) == (first.digest, first.n_bytes)
    assert again.signature != first.signature


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "loaded the model ended: SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os._exit(3)", "ended: exit code 3"),
        ("raise ValueError('no')", "inference.py cannot be loaded: ValueError: no"),
        ("def model_fn(): pass", "model_fn takes 0 parameters"),
        ("x" * 100_000, "NameError"),
    ],
)
def test_bad_model_is_refused_with_the_reason(
    directory: Path, admission: Admission, script: str, problem: str
) -> None:
    """Says why, whatever the model does to the process that validates it (C-082)."""
    write_script(directory, script)

    with pytest.raises(ModelLoadError, match=problem):
        admission.admit(directory)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("open(os.path.join(os.path.dirname(__file__), 'w.txt'))", "directory: 'code/w.txt'"),
        ("from helpers import nothing", r"from 'helpers.*' \(code/helpers\.py\)"),
        ("from xgboost.core import nothing", r"\(…/core\.py\)"),
        ("def model_fn(d): raise KeyError(d)", "KeyError: 'the model directory'"),
        ("def model_fn(d: 'a b'): return (", r"SyntaxError: .*\(inference\.py, line 2\)"),
        ("def model_fn(d): raise OSError(2, 'gone', '/etc/my/secret.txt')", "gone: '…/secret.txt'"),
    ],
)
def test_reason_names_no_path_of_the_host(
    directory: Path, admission: Admission, script: str, problem: str
) -> None:
    """Shows paths in the model directory as relative ones, and the last part of others (C-082)."""
    write_script(directory, script)
    (directory / "code" / "helpers.py").write_text("")

    with pytest.raises(ModelLoadError, match=problem) as caught:
        admission.admit(directory)

    assert not re.search(r"(?<![\w…])/\w", caught.value.message)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: (path / "byoa-manifest.json").mkdir(), "byoa-manifest.json cannot be read"),
        (lambda path: (path / "below").mkdir(), "files found: below/"),
        (lambda path: (path / "byoa-manifest.json").write_text("{}"), "byoa-manifest.json: "),
        (lambda path: (path / "xgboost-model").write_bytes(b"{L"), "xgboost-model is damaged"),
    ],
)
def test_reason_without_code_names_no_path_of_the_host(
    directory: Path, admission: Admission, make: Callable[[Path], object], problem: str
) -> None:
    """Whichever part of the server refuses the model (C-082)."""
    (directory / "code").rmdir()
    make(directory)
    (directory / "file").touch()  # a directory without any would have the digest of another one

    with pytest.raises(ModelLoadError, match=problem) as caught:
        admission.admit(directory)

    assert not re.search(r"(?<![\w…])/\w", caught.value.message)


def test_model_that_hangs_is_killed_with_all_that_it_started(
    directory: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The timeout is not cached as a verdict (C-082)."""
    monkeypatch.setattr(model_process, "MODEL_TIMEOUT_SECONDS", 3.0)
    note = tmp_path / "note"
    write_script(
        directory,
        f"""
child = os.fork()
if child:
    open({str(note)!r}, "w").write(str(child))
time.sleep(60)
""",
    )

    with running(tmp_path), pytest.raises(ModelLoadError, match="took longer than"):
        Admission(tmp_path, registry).admit(directory)

    assert has_ended(int(note.read_text()))
    assert registry.verdict(model_files.digest(directory)) is None


def has_ended(process_id: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{process_id}/stat").read_text()
        except OSError:
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_process_that_is_killed_is_repeated(directory: Path, admission: Admission) -> None:
    """Repeats a run that was killed: the model may not be at fault (C-079)."""
    flag = directory.parent / "flag"
    write_script(
        directory,
        f"""
if not os.path.exists({str(flag)!r}):
    open({str(flag)!r}, "w")
    os.kill(os.getpid(), signal.SIGKILL)
def predict_fn(data, model): pass
def model_fn(model_dir): pass
""",
    )

    assert admission.admit(directory).algorithm == "code"


def test_model_whose_process_is_always_killed_is_not_loaded(
    directory: Path, admission: Admission
) -> None:
    """Gives up after three attempts (C-082)."""
    write_script(directory, "os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(PlatformError, match="killed 3 times"):
        admission.admit(directory)


def test_death_by_the_kernel_for_want_of_memory_is_507(
    directory: Path, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers 507, by the kernel's own count of processes killed for memory (C-081)."""
    counts = iter([3, 4])
    monkeypatch.setattr(cgroup, "memory_kills", lambda: next(counts))
    write_script(directory, "os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(OutOfMemoryError, match="MiB are free"):
        admission.admit(directory)


def test_model_that_asks_for_more_than_there_is_is_507(
    directory: Path, admission: Admission
) -> None:
    """The child meets its own limit before the kernel has to choose a victim (C-081)."""
    write_script(directory, "def model_fn(model_dir):\n    return bytearray(2**45)")

    with pytest.raises(OutOfMemoryError):
        admission.admit(directory)


def test_files_that_change_during_the_validation_run_are_refused(
    directory: Path, admission: Admission
) -> None:
    """Refuses files that are still being copied (C-082)."""
    write_script(directory, "open(__file__, 'a').write('#')\ndef model_fn(d): pass\nx = 1")
    with pytest.raises(ModelLoadError, match=r"no predict\(data\)|changed while"):
        admission.admit(directory)
    write_script(
        directory,
        "open(__file__, 'a').write('#')\ndef model_fn(d): pass\ndef predict_fn(d, m): pass",
    )

    with pytest.raises(ModelLoadError, match="changed while it was being loaded"):
        admission.admit(directory)


def test_fork_server_is_started_again_and_nobody_notices(
    directory: Path, admission: Admission, fork_server: ForkServer
) -> None:
    """A client that connects between two fork servers waits; its run is repeated (C-079)."""
    (directory / "xgboost-model").write_bytes(bytes(booster().save_raw("ubj")))
    first = fork_server.process_id
    os.kill(first, signal.SIGKILL)
    admitted: list[object] = []
    asking = threading.Thread(target=lambda: admitted.append(admission.admit(directory)))
    asking.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while fork_server.process_id == first and time.monotonic() < deadline:
        fork_server.keep_running()
        time.sleep(0.01)
    asking.join(PATIENCE_SECONDS)

    assert len(admitted) == 1
    assert fork_server.process_id != first


def test_fork_server_leaves_with_its_parent(tmp_path: Path) -> None:
    """No process stays behind when the arbiter is killed (C-062)."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        server = ForkServer(tmp_path, SETTINGS, n_at_once=1)
        server.keep_running()
        os.write(writer, str(server.process_id).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)

    assert has_ended(int(os.read(reader, 20)))
    os.close(reader)
    os.close(writer)


def test_sigterm_right_after_the_fork_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not lost to the handlers of the parent, which the child has at first (C-062)."""
    fork = os.fork

    def fork_and_signal() -> int:
        process_id = fork()
        if process_id == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return process_id

    monkeypatch.setattr(os, "fork", fork_and_signal)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server = ForkServer(tmp_path, SETTINGS, n_at_once=1)
        server.keep_running()
    finally:
        signal.signal(signal.SIGTERM, before)
    has_gone = has_ended(server.process_id)
    server.stop()

    assert has_gone


def test_directory_of_a_server_that_was_killed_is_known(tmp_path: Path) -> None:
    """Tells the directory of a server that was killed from that of a living one (C-062)."""
    assert is_listening(tmp_path)  # one that is only just starting
    with running(tmp_path):
        assert is_listening(tmp_path)

    assert not is_listening(tmp_path)


def test_more_models_than_at_once_wait_for_each_other(tmp_path: Path, admission: Admission) -> None:
    """Validates all of them, two at a time (C-090)."""
    directories = []
    for index in range(5):
        directory = tmp_path / str(index)
        (directory / "code").mkdir(parents=True)
        write_script(
            directory,
            f"time.sleep(0.2)\nx = {index}\ndef model_fn(d): pass\ndef predict_fn(d, m): pass",
        )
        directories.append(directory)
    started = time.monotonic()
    with ThreadPoolExecutor(5) as pool:
        admitted = list(pool.map(admission.admit, directories))

    assert len({each.digest for each in admitted}) == 5
    assert time.monotonic() - started > 0.55


def test_processes_that_hang_hold_up_no_others(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts another run beside as many hanging ones as may run at a time (C-089)."""
    monkeypatch.setattr(fork_server_module, "_SLOW_SECONDS", 0.5)
    sound = tmp_path / "sound"
    (sound / "code").mkdir(parents=True)
    write_script(sound, "def model_fn(d): pass\ndef predict_fn(d, m): pass")

    with (
        running(tmp_path),
        contextlib.closing(Admission(tmp_path, registry)) as admission,
        two_at_once(tmp_path, admission) as hanging,
    ):
        assert admission.admit(sound).algorithm == "code"

        assert not any(run.done() for run in hanging)


def test_process_does_not_wait_for_one_that_began_later(
    tmp_path: Path, admission: Admission
) -> None:
    """A model that is slow to load holds up no other one (C-090)."""
    with two_at_once(tmp_path, admission) as (first, second):
        (tmp_path / "first may end").touch()

        assert first.result(timeout=PATIENCE_SECONDS).algorithm == "code"
        assert not second.done()


# Writes the given bytes into every descriptor of its process.
WRITE_TO_ALL = """
import contextlib
for number in range(3, 256):
    with contextlib.suppress(OSError):
        os.write(number, %r)
"""
FORGED = json.dumps({"algorithm": "xgboost", "n_bytes": 1, "status": 0, "is_late": False}).encode()
FRAME = b"\x02" + b"\0" * 11 + b"[]"


@pytest.mark.parametrize("written", [FORGED, b"\xff garbage", b"\0" * 16 + FORGED, FRAME])
@pytest.mark.parametrize("end", ["", "os._exit(0)", "os._exit(3)"])
def test_code_cannot_report_for_another_model(
    tmp_path: Path, admission: Admission, written: bytes, end: str
) -> None:
    """Refuses a model that writes a report or garbage; other clients get none of it (C-082)."""
    deed = f"{WRITE_TO_ALL % (written,)}\n{end}"
    with two_at_once(tmp_path, admission, deed) as (first, second):
        (tmp_path / "second may end").touch()
        with pytest.raises(
            ModelLoadError, match=r"descriptor that it did not open|the model ended"
        ):
            second.result(timeout=PATIENCE_SECONDS)
        (tmp_path / "first may end").touch()

        assert first.result(timeout=PATIENCE_SECONDS).algorithm == "code"


@contextmanager
def two_at_once(
    directory: Path, admission: Admission, deed: str = ""
) -> "Iterator[list[Future[Admitted]]]":
    """Validate two models at once; both wait for a file before they end."""
    may_end = {name: directory / f"{name} may end" for name in ("first", "second")}
    with ThreadPoolExecutor(2) as pool:
        futures = []
        for name, text in (("first", ""), ("second", deed)):
            model, runs = directory / name, directory / f"{name} runs"
            (model / "code").mkdir(parents=True)
            waiting = f"while not os.path.exists({str(may_end[name])!r}):\n    time.sleep(0.01)"
            functions = "def model_fn(d): pass\ndef predict_fn(d, m): pass"
            write_script(model, f"open({str(runs)!r}, 'w')\n{text}\n{waiting}\n{functions}")
            futures.append(pool.submit(admission.admit, model))
            wait_for(runs.exists)
        try:
            yield futures
        finally:
            for file in may_end.values():
                file.touch()


@pytest.mark.parametrize("packet", [b"\xff", b"[]", b"{}", b'{"status": "0", "is_late": false}'])
def test_answer_that_is_none_refuses_the_model(
    tmp_path: Path, directory: Path, registry: Registry, packet: bytes
) -> None:
    """Refuses the model when another process has taken the fork server's place."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.bind(str(socket_file(tmp_path)))
        listener.listen()
        admitted = pool.submit(Admission(tmp_path, registry).admit, directory)
        listener.settimeout(PATIENCE_SECONDS)
        client, _ = listener.accept()
        client.recv(1000)
        client.send(packet)

        with pytest.raises(ModelLoadError, match="without a readable answer"):
            admitted.result(timeout=PATIENCE_SECONDS)
        client.close()
