"""The life of a server's processes: loading, dying, returning, leaving."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend, DockerBackend
from local_test.datasets import TabularDataset
from local_test.docker_engine import docker
from local_test.invoke import invoke, ping
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from local_test.programs import RunningServer
from tests.blackbox.conftest import Trained
from tests.blackbox.processes import (
    kill,
    listening_ports,
    wait_for_workers,
    workers_of,
    zombies_of,
)
from tests.waiting import PATIENCE_SECONDS, wait_for

ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
TWO_WORKERS = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}

LOADS_WHEN_TOLD = """
import pathlib, time
def model_fn(model_dir):
    while not pathlib.Path(model_dir, "may-load").exists():
        time.sleep(0.01)
def transform_fn(model, input_data, content_type, accept):
    return input_data, "text/plain"
"""

DIES_WHEN_LOADED = """
import os
def model_fn(model_dir):
    os._exit(9)
def transform_fn(model, input_data, content_type, accept):
    return input_data
"""

LOADS_ONCE = """
import os, pathlib
def model_fn(model_dir):
    flag = pathlib.Path("/tmp", "loaded-" + os.environ["MY_FLAG"])
    flag.touch(exist_ok=False)
def transform_fn(model, input_data, content_type, accept):
    return input_data, "text/plain"
"""

FORKS_AND_DIES = """
import os, time
def model_fn(model_dir):
    return None
def transform_fn(model, input_data, content_type, accept):
    if "die" in str(input_data):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        os._exit(3)
    return input_data, "text/plain"
"""


def _scripted(tmp_path: Path, script: str) -> MlTree:
    ml = MlTree(tmp_path / "scripted").create()
    (ml.model_dir / "code").mkdir()
    (ml.model_dir / "code" / "inference.py").write_text(script)
    return ml


def _wait_until_open(server: RunningServer) -> None:
    """Wait until something answers: a connection to a closed port is refused."""

    def is_open() -> bool:
        try:
            return ping(server.url, timeout_seconds=PATIENCE_SECONDS).status > 0
        except (OSError, HTTPException):
            return False

    wait_for(is_open)


def test_ping_is_503_while_a_model_loads_and_loads_again(backend: Backend, tmp_path: Path) -> None:
    """Answers within 2 s all the time, also after the worker was killed (C-046, C-063)."""
    ml = _scripted(tmp_path, LOADS_WHEN_TOLD)
    may_load = ml.model_dir / "may-load"
    with backend.start_server(ml, environment=ONE_WORKER, wait_until_ready=False) as server:
        _wait_until_open(server)
        first = [ping(server.url).status for _ in range(20)]
        may_load.touch()
        server.wait_until_ready()
        invocation = invoke(server.url, b"first", content_type="text/plain")
        may_load.unlink()
        kill(server, wait_for_workers(server, 1)[0])
        again = invoke(server.url, b"second", content_type="text/plain")
        second = [ping(server.url).status for _ in range(20)]
        may_load.touch()
        server.wait_until_ready()
        answered = invoke(server.url, b"third", content_type="text/plain")

    assert set(first) == set(second) == {503}
    assert (invocation.status, answered.body) == (200, b"third")
    assert again.status == 503
    assert again.headers["Retry-After"] == "1"
    assert json.loads(again.body)["error"]["code"] == "loading"


def _send_until(stop: threading.Event, url: str, body: bytes, answers: list[bytes | None]) -> None:
    """Send one request after the other; the answer to one that broke is None."""
    while not stop.is_set():
        try:
            response = invoke(url, body)
            answers.append(response.body if response.status == 200 else None)
        except (OSError, HTTPException):
            answers.append(None)


@pytest.mark.canary
def test_killed_worker_costs_only_its_own_requests(
    backend: Backend, trained: Trained, cancer: TabularDataset, features: np.ndarray
) -> None:
    """Replaces a worker killed under load, and leaves no zombie (C-063)."""
    body = b"".join(cancer.payload.splitlines(keepends=True)[:20])
    n_clients, n_kills, n_answers = 8, 3, 100
    with backend.start_server(trained.ml, environment=TWO_WORKERS) as server:
        stop = threading.Event()
        answers: list[bytes | None] = []
        with ThreadPoolExecutor(n_clients) as clients:
            try:
                for _ in range(n_clients):
                    clients.submit(_send_until, stop, server.url, body, answers)
                for round_number in range(n_kills):
                    wait_for(lambda n=n_answers * (round_number + 1): len(answers) > n)
                    before = wait_for_workers(server, 2)
                    kill(server, before[0])
                    after = wait_for_workers(server, 2, other_than=before[0])
                    assert ping(server.url).status == 200
            finally:
                stop.set()
        zombies = zombies_of(server)
        stopped = server.stop()

    assert len(after) == 2
    assert zombies == []
    assert answers.count(None) <= n_kills * n_clients
    expected = trained.expected(features)[:20]
    for answer in {answer for answer in answers if answer is not None}:
        np.testing.assert_allclose(np.array(answer.split(), dtype=np.float32), expected, atol=1e-6)
    assert stopped.exit_code == 0


def test_code_that_ends_its_process_while_it_loads_ends_the_server(
    backend: Backend, tmp_path: Path
) -> None:
    """Says what happened and stops at once, as for a `model_fn` that raises (C-061, C-063)."""
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(
            _scripted(tmp_path, DIES_WHEN_LOADED),
            environment=ONE_WORKER,
            ready_timeout_seconds=PATIENCE_SECONDS,
        )

    assert caught.value.exit_code not in (0, None)
    assert caught.value.output.count("Booting worker") == 1
    assert "exit code 9" in caught.value.output


def test_model_that_cannot_come_back_ends_the_server(backend: Backend, tmp_path: Path) -> None:
    """The worker dies, its model fails to load the second time (C-061, C-063)."""
    environment = ONE_WORKER | {"MY_FLAG": f"{os.getpid()}-{time.time_ns()}"}
    server = backend.start_server(_scripted(tmp_path, LOADS_ONCE), environment=environment)
    kill(server, wait_for_workers(server, 1)[0])
    exit_code = server.wait(PATIENCE_SECONDS)
    server.close()
    Path("/tmp", f"loaded-{environment['MY_FLAG']}").unlink(missing_ok=True)

    assert exit_code not in (0, 137)
    assert "model_fn failed: FileExistsError" in server.output()


def test_nobody_waits_for_what_a_dead_model_process_has_forked(
    backend: Backend, tmp_path: Path
) -> None:
    """A request that kills its model's process is a 500 at once; the next is answered (C-089)."""
    ml = _scripted(tmp_path, FORKS_AND_DIES)
    with backend.start_server(ml, environment=ONE_WORKER) as server:
        workers = wait_for_workers(server, 1)

        died = invoke(server.url, b"die", content_type="text/plain")  # the fork sleeps for minutes

        assert died.status == 500
        assert json.loads(died.body)["error"]["code"] == "model_crashed"
        assert invoke(server.url, b"x", content_type="text/plain").status == 200
        assert workers_of(server) == workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading_ends_the_server(
    backend: Backend, tmp_path: Path, number: signal.Signals
) -> None:
    """Ends soon and by itself at whatever stage the signal comes (C-062)."""
    ml = _scripted(tmp_path, LOADS_WHEN_TOLD)
    workers = {"SAGEMAKER_MODEL_SERVER_WORKERS": "4"}
    for has_workers in (False, True):
        server = backend.start_server(ml, environment=workers, wait_until_ready=False)
        _wait_until_open(server)
        if has_workers:
            server.wait_for_output("Booting worker")
            time.sleep(0.3)
        server.send_signal(number)
        exit_code = server.wait(PATIENCE_SECONDS)
        server.close()

        assert exit_code != 137
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("numbers", [[signal.SIGTERM] * 3, [signal.SIGINT], [signal.SIGQUIT]])
def test_signals_end_an_idle_server(
    backend: Backend, trained: Trained, numbers: list[signal.Signals]
) -> None:
    """SIGTERM more than once, and Ctrl-C; a connection that is kept alive does not hold it back
    (C-062).
    """
    with backend.start_server(trained.ml) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", "/ping")
        connection.getresponse().read()
        began = time.monotonic()
        for number in numbers:
            server.send_signal(number)
            time.sleep(0.1)
        exit_code = server.wait(PATIENCE_SECONDS)
        took = time.monotonic() - began
        connection.close()

    assert exit_code == 0
    assert took < 20
    assert "Traceback" not in server.output()


def test_sighup_and_others_leave_the_server_serving(
    backend: Backend, trained: Trained, cancer: TabularDataset
) -> None:
    """A terminal that goes away, and a client that hangs up."""
    with backend.start_server(trained.ml, environment=ONE_WORKER) as server:
        for name in ("SIGHUP", "SIGUSR2", "SIGPIPE", "SIGUSR1", "SIGWINCH"):
            server.send_signal(signal.Signals[name])
            assert ping(server.url).status == 200
            assert invoke(server.url, cancer.payload).status == 200
        time.sleep(0.5)  # more than it needs to end for one of them
        assert invoke(server.url, cancer.payload).status == 200
        wait_for_workers(server, 1)
        assert server.stop().exit_code == 0


def test_server_leaves_no_file_behind(
    backend: Backend, trained: Trained, cancer: TabularDataset, tmp_path: Path
) -> None:
    """Nothing in /tmp, after SIGTERM and after SIGKILL, nor while it runs."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    environment = ONE_WORKER | {"TMPDIR": str(directory)}
    if isinstance(backend, DockerBackend):
        backend = DockerBackend(backend.image, ("--volume", f"{directory}:/tmp"))
        environment = ONE_WORKER
    left = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        with backend.start_server(trained.ml, environment=environment) as server:
            for body in (cancer.payload, b"1,2", cancer.payload * 200):
                invoke(server.url, body)
            kill(server, wait_for_workers(server, 1)[0])
            server.wait_until_ready()
            left += directory.iterdir()
            server.send_signal(number)
            server.wait(PATIENCE_SECONDS)
        left += directory.iterdir()

    assert left == []


def test_full_disk_does_not_stop_a_server(trained: Trained, image: str) -> None:
    """/tmp and /dev/shm without a byte left, before the start and after."""
    options = ("--read-only", "--tmpfs", "/tmp:size=16k", "--shm-size", "64k")
    fill = "for d in /tmp /dev/shm; do dd if=/dev/zero of=$d/fill bs=1k count=999 2>/dev/null; done"
    with DockerBackend(image, options).start_server(trained.ml, environment=ONE_WORKER) as server:
        docker("exec", server.name, "/bin/sh", "-c", f"{fill}; exit 0")
        for _ in range(3):
            assert invoke(server.url, b"1,2").status == 400
        kill(server, wait_for_workers(server, 1)[0])
        server.wait_until_ready()
        assert invoke(server.url, b"1,2").status == 400
        docker("exec", server.name, "python", "-c", _SCRAPE)
        assert server.stop().exit_code == 0


_SCRAPE = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/metrics').read()"


def test_orphans_of_a_users_code_are_waited_for(tmp_path: Path, image: str) -> None:
    """PID 1 of a container inherits every process whose parent has ended."""
    script = """
import subprocess
def model_fn(model_dir):
    return None
def transform_fn(model, input_data, content_type, accept):
    subprocess.run("(sleep 0.2; true) & (sleep 0.2; true) &", shell=True)
    return b"started", "text/plain"
"""
    with DockerBackend(image).start_server(
        _scripted(tmp_path, script), environment=ONE_WORKER
    ) as server:
        for _ in range(5):
            assert invoke(server.url, b"x", content_type="text/plain").body == b"started"
        wait_for(lambda: len(workers_of(server)) == 1 and not zombies_of(server))
        assert ping(server.url).status == 200


@pytest.mark.parametrize(
    "environment",
    [
        {
            "SAGEMAKER_SAFE_PORT_RANGE": "21000-21001",
            "GUNICORN_CMD_ARGS": "--workers 9 --bind 0.0.0.0:1",
            "WEB_CONCURRENCY": "9",
            "PORT": "99999",
            "http_proxy": "http://127.0.0.1:1",
            "AWS_REGION": "mars-north-1",
        },
        {
            "LC_ALL": "C",
            "LANG": "C",
            "TZ": "Asia/Kathmandu",
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "4",
        },
        {"LC_ALL": "xx_YY.nothing", "TZ": ":/nowhere", "HOME": "/nowhere", "PYTHONUTF8": "0"},
    ],
    ids=["ports-and-workers", "locale-c", "no-such-locale"],
)
def test_surroundings_do_not_change_the_answer(
    backend: Backend,
    trained: Trained,
    cancer: TabularDataset,
    features: np.ndarray,
    environment: dict[str, str],
) -> None:
    """One port, the workers asked for, the same predictions (C-043, C-064)."""
    with backend.start_server(trained.ml, environment=TWO_WORKERS | environment) as server:
        answer = invoke(server.url, cancer.payload)
        wait_for_workers(server, 2)
        ports = listening_ports(server)

    assert answer.status == 200
    predicted = np.array(answer.text.split(), dtype=np.float32)
    np.testing.assert_allclose(predicted, trained.expected(features), atol=1e-6)
    inside = {8080} if isinstance(backend, DockerBackend) else {server.port}
    assert ports == inside
