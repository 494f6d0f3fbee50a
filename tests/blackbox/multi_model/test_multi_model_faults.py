"""Multi-model endpoints from outside: processes are killed, and nothing acknowledged is lost.

Clients load, invoke, replace and unload models of their own, while a schedule that a seed makes
kills workers, the fork server, the child that tries a model, or the process of a model with code.
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from local_test.invoke import Response, ping
from tests.blackbox.multi_model.conftest import Fleet, StartFleet, error_of, in_parallel, retried
from tests.waiting import PATIENCE_SECONDS, wait_for

N_CLIENTS = 4
SECONDS = 6.0
# On a busy machine it takes longer until enough has been done, but not for ever.
MAX_SECONDS = 120.0
N_CALLS = 100
OF_CODE = """
def model_fn(model_dir):
    return {value!r}

def transform_fn(model, body, content_type, accept):
    return f"{{model}}\\n", "text/csv"
"""


class Client(threading.Thread):
    """Works on models that are its own, and knows what the server has acknowledged of them."""

    def __init__(self, fleet: Fleet, number: int, is_over: threading.Event) -> None:
        super().__init__()
        self._fleet = fleet
        self._chance = random.Random(number)  # noqa: S311 - a schedule that can be repeated
        self._is_over = is_over
        self._with_code = f"code-{number}"
        self._names = [f"model-{number}-1", f"model-{number}-2", self._with_code]
        self.acknowledged: dict[str, float | None] = dict.fromkeys(self._names)
        self.problems: list[str] = []
        self.n_done = 0

    def run(self) -> None:
        while not self._is_over.is_set():
            name = self._chance.choice(self._names)
            value = self.acknowledged[name]
            if value is None:
                self._load(name, float(self._chance.randint(1, 4)))
            elif self._chance.random() < 0.2:
                self._unload(name)
            else:
                self._invoke(name, value)
            self.n_done += 1

    def _load(self, name: str, value: float) -> None:
        """Try until it is acknowledged: 409 means that the lost answer was a good one."""
        if name == self._with_code:
            self._fleet.write(name, {"code/inference.py": OF_CODE.format(value=value)})
        else:
            self._fleet.write_constant(name, value)
        answer = self._insisting("POST", name)
        if answer.status not in (200, 409):
            self.problems.append(f"load of {name}: {answer.status} {answer.text}")
        self.acknowledged[name] = value

    def _unload(self, name: str) -> None:
        answer = self._insisting("DELETE", name)
        if answer.status not in (200, 404):
            self.problems.append(f"unload of {name}: {answer.status} {answer.text}")
        self.acknowledged[name] = None
        self._expect(name, self._answer(name), None)

    def _invoke(self, name: str, value: float) -> None:
        self._expect(name, self._answer(name), value)

    def _answer(self, name: str) -> Response | None:
        """None where the connection broke, as it may when a worker is killed."""
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            return self._fleet.invoke(name)
        return None

    def _expect(self, name: str, answer: Response | None, value: float | None) -> None:
        if answer is None:
            return
        # The process of a model with code was killed, or the fork server, which starts the next.
        if name == self._with_code and error_code(answer) in ("model_crashed", "platform_error"):
            return
        seen = float(answer.body) if answer.status == 200 else answer.status
        if seen != (404 if value is None else value):
            self.problems.append(f"{name}: {seen}, not {value}: {answer.text}")

    def _insisting(self, method: str, name: str) -> Response:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                fleet = self._fleet
                answer = fleet.load(name) if method == "POST" else fleet.unload(name)
                # "being registered": by a worker that is loading it for the lost request
                if answer.status not in (500, 503) and "already being" not in answer.text:
                    return answer
            time.sleep(0.02)
        raise AssertionError(f"{method} {name} was never answered")


@pytest.mark.slow
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_when_processes_are_killed(
    start_fleet: StartFleet, seed: int
) -> None:
    """Every acknowledged model answers, no deleted one does (C-079, C-085, C-089, C-090)."""
    chance = random.Random(seed)  # noqa: S311
    with start_fleet() as fleet:
        fleet.timeout_seconds = 20
        is_over = threading.Event()
        clients = [Client(fleet, 10 * seed + index, is_over) for index in range(N_CLIENTS)]
        for client in clients:
            client.start()
        began = time.monotonic()
        while (took := time.monotonic() - began) < SECONDS or (
            sum(client.n_done for client in clients) <= N_CALLS and took < MAX_SECONDS
        ):
            time.sleep(chance.uniform(0.05, 0.4))
            kill_one(fleet, chance)
        is_over.set()
        for client in clients:
            client.join()

        problems = [problem for client in clients for problem in client.problems]
        expected = {
            name: value for client in clients for name, value in client.acknowledged.items()
        }
        loaded = {name: value for name, value in expected.items() if value is not None}
        assert problems == []
        assert sum(client.n_done for client in clients) > N_CALLS
        assert sorted(retried(fleet.names)) == sorted(loaded)
        for name, value in expected.items():
            # The last kill may have hit the process of a model that nobody has invoked since.
            wait_for(lambda name=name: error_code(fleet.invoke(name)) != "model_crashed")
            for _ in range(6):  # either worker
                answer = fleet.invoke(name)
                assert answer.status == (404 if value is None else 200), (name, answer.text)
                assert value is None or float(answer.body) == value
        assert ping(fleet.server.url).status == 200


def error_code(answer: Response) -> str:
    """Return our code of a refusal; empty for an answer."""
    return error_of(answer)[2] if answer.status >= 400 else ""


def kill_one(fleet: Fleet, chance: random.Random) -> None:
    role = chance.choice(["worker", "worker", "fork-server", "model-process"])
    processes = fleet.processes(role)
    if processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(processes), signal.SIGKILL)


# Is imported when the file in its place is gone.
WAITS = """
    import os, time

    while os.path.exists({hold!r}):
        time.sleep(0.01)

    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        return body
"""


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("role", ["model-process", "fork-server"])
def test_load_survives_the_death_of_its_process(start_fleet: StartFleet, role: str) -> None:
    """Repeats a load whose process was killed, or whose fork server was (C-079)."""
    with start_fleet() as fleet, fleet.held() as (file, hold):
        fleet.write("slow", {"code/inference.py": WAITS.format(hold=hold)})
        answers: list[Response] = []
        loading = threading.Thread(target=lambda: answers.append(fleet.load("slow")))
        loading.start()
        wait_for(lambda: fleet.processes("model-process"))

        fleet.kill(role)
        file.unlink()
        loading.join(PATIENCE_SECONDS)

        assert [answer.status for answer in answers] == [200]
        assert fleet.invoke("slow", b"x").text == "x"


@pytest.mark.docker_cases(0)
def test_load_that_died_with_its_worker_leaves_nothing_behind(start_fleet: StartFleet) -> None:
    """The name is free at once, for another worker to load (C-082, C-090)."""
    with start_fleet() as fleet, fleet.held() as (file, hold):
        fleet.write("slow", {"code/inference.py": WAITS.format(hold=hold)})
        broken: list[BaseException] = []

        def load() -> None:
            try:
                fleet.load("slow")
            except (ConnectionError, http.client.HTTPException) as error:
                broken.append(error)

        loading = threading.Thread(target=load)
        loading.start()
        wait_for(lambda: fleet.processes("model-process"))
        fleet.kill("worker")
        loading.join()
        file.unlink()

        assert len(broken) == 1
        assert retried(lambda: fleet.request("GET", "/models")).text == '{"models":[]}'
        assert retried(lambda: fleet.load("slow")).status == 200
        wait_for(lambda: len(fleet.processes("model-process")) == 1)  # that of the dead is gone


def test_unload_does_not_wait_for_the_dead(start_fleet: StartFleet) -> None:
    """A worker that dies in the middle of an invocation does not hold it up (C-085)."""
    script = """
        import time

        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            print("it has begun", flush=True)
            time.sleep(600)
    """
    with start_fleet() as fleet:
        fleet.write("m", {"code/inference.py": script})
        fleet.load("m")

        def invoke() -> None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                fleet.invoke("m", b"x")

        threads = [threading.Thread(target=invoke) for _ in range(8)]
        unloading = threading.Thread(target=lambda: retried(lambda: fleet.unload("m")))
        for thread in threads:
            thread.start()
        fleet.server.wait_for_output("it has begun", PATIENCE_SECONDS)
        unloading.start()
        time.sleep(0.5)
        assert unloading.is_alive()  # it waits for what runs
        fleet.kill("worker")
        unloading.join(50)  # for what runs it would wait 70 s

        assert not unloading.is_alive()
        assert retried(lambda: fleet.invoke("m", b"x")).status == 404
        for thread in threads:
            thread.join()


def test_every_worker_serves_what_any_worker_loaded_after_all_died(
    start_fleet: StartFleet,
) -> None:
    """The registry outlives the workers (C-079)."""
    with start_fleet() as fleet:
        for value in range(1, 21):
            fleet.write_constant(f"m{value}", float(value))
            assert fleet.load(f"m{value}").status == 200

        fleet.kill("worker")

        assert retried(lambda: fleet.invoke("m1")).status == 200
        answers = in_parallel(20, lambda index: retried(lambda: fleet.invoke(f"m{index + 1}")))
        assert [float(answer.body) for answer in answers] == list(range(1, 21))


@pytest.mark.parametrize("exit_code", [3, 4])
def test_code_that_ends_its_process_ends_no_server(one_worker_fleet: Fleet, exit_code: int) -> None:
    """Survives also the exit codes that gunicorn reserves for a broken application (C-089)."""
    script = f"""
        import os

        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            os._exit({exit_code})
    """
    fleet = one_worker_fleet
    fleet.write("bad", {"code/inference.py": script})
    fleet.write_constant("good", 1.0)
    assert fleet.load("bad").status == fleet.load("good").status == 200

    before = fleet.processes("worker")

    ended = fleet.invoke("bad", b"x")

    assert error_of(ended) == (500, "InternalServerException", "model_crashed")
    assert f"exit code {exit_code}" in ended.text
    assert float(fleet.invoke("good").body) == 1.0
    assert fleet.processes("worker") == before
    assert fleet.names() == ["bad", "good"]


@pytest.mark.docker_cases(0)
def test_files_of_a_server_that_was_killed_are_removed_by_the_next_one(
    start_fleet: StartFleet,
) -> None:
    """Removes files left by a killed server; a container's go with it (C-062)."""
    with start_fleet() as fleet:
        before = set(Path("/dev/shm").glob("byoa-models-*"))
        for process_id in fleet.server.process_ids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
    left = {path for path in before if path.exists() and is_dead(path)}
    assert left

    with start_fleet():
        assert not any(path.exists() for path in left)


def is_dead(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(directory / "fork-server.sock"))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


@pytest.mark.docker_cases(0)
def test_sigterm_ends_all_processes(start_fleet: StartFleet) -> None:
    """The fork server and what it tries go, too, and no file is left (C-062)."""
    with start_fleet() as fleet, fleet.held() as (_, hold):
        fleet.write("slow", {"code/inference.py": WAITS.format(hold=hold)})

        def load() -> None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                fleet.load("slow")

        loading = threading.Thread(target=load)
        loading.start()
        wait_for(lambda: fleet.processes("model-process"))

        stopped = fleet.server.stop()

        assert stopped.exit_code == 0
        loading.join()
