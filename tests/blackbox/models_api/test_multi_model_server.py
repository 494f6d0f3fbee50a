"""multi-model-server as the engine: how it starts and stops, and what its surroundings see."""

import gzip
import http.server
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_test.backends import DockerBackend
from local_test.docker_engine import docker
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from tests.blackbox.models_api.conftest import Start
from tests.blackbox.models_api.models import CSV, SLEEPS, Models, predicted, score
from tests.blackbox.processes import listening_ports
from tests.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow


def test_url_of_another_server_is_not_fetched(models: Models) -> None:
    """Multi-model-server would download an archive and run the code in it (C-007)."""
    if isinstance(models.backend, DockerBackend):
        pytest.skip("the container's loopback interface is not this machine's")
    asked: list[str] = []

    class Archive(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/model.mar"
        status = models.post({"model_name": "remote", "url": url}).status
        server.shutdown()

    assert status == 400
    assert asked == []


def test_unloaded_model_is_gone_with_its_processes(models: Models) -> None:
    """All that it had is free with them (C-085)."""
    models.write_tree("unloaded", 1)
    before = set(models.server.process_ids())  # perhaps some of other tests' models, at their end
    models.load("unloaded")
    found: set[int] = set()

    def are_there() -> bool:
        found.update(models.server.process_ids())
        return len(found - before) >= 2

    wait_for(are_there)

    assert models.unload("unloaded").status == 200

    wait_for(lambda: not (found - before) & set(models.server.process_ids()))


def test_reason_of_a_load_that_failed_is_in_the_log(models: Models) -> None:
    """The answer cannot have it (C-082)."""
    models.directory("empty-directory").mkdir(parents=True)

    assert models.load("empty-directory").status == 500

    models.server.wait_for_output('"model_name": "empty-directory"')
    assert '"model_load_failed"' in models.server.output()


@pytest.mark.docker_cases(0)
def test_body_beyond_the_limit_is_413(start: Start) -> None:
    """The limit is a setting, also for what is compressed (C-050)."""
    with (models := start(SAGEMAKER_MAX_PAYLOAD_IN_MB="1")).server:
        models.write_tree("m", 1)
        models.load("m")
        body = b"1,2\n" * 2**18 + b"1,2\n"
        assert models.invoke("m", body).status == 413
        packed = models.invoke(
            "m", gzip.compress(body), headers={**CSV, "Content-Encoding": "gzip"}
        )
        assert packed.status == 413
        assert models.invoke("m").status == 200


def test_only_the_one_port_is_open(models: Models) -> None:
    """Workers are spoken to through sockets of the file system (C-042, C-043)."""
    models.write_tree("port", 1)
    models.load("port")

    in_docker = isinstance(models.backend, DockerBackend)
    assert listening_ports(models.server) == {8080 if in_docker else models.server.port}


def test_sigterm_finishes_what_is_in_flight(start: Start) -> None:
    """Multi-model-server alone would cut it off, and leave its workers behind (C-062)."""
    with (models := start()).server, ThreadPoolExecutor(1) as pool:
        models.write("m", SLEEPS)
        models.load("m")
        process_ids = models.server.process_ids()
        call = pool.submit(models.invoke, "m", b"3")
        models.server.wait_for_output("sleeps 3.0", PATIENCE_SECONDS)

        stopped = models.server.stop()

        assert call.result().text == "slept"
    assert (stopped.exit_code, stopped.ended_by) == (0, "SIGTERM")
    assert stopped.duration_seconds > 2
    assert len(process_ids) == 4  # the launcher, the JVM, two of the model
    assert not any(Path(f"/proc/{process_id}").exists() for process_id in process_ids)


@pytest.mark.docker_cases(0)
def test_sigterm_ends_a_model_that_does_not_come_to_an_end(start: Start) -> None:
    """Ends within the 30 s that the platform waits (C-062)."""
    with (models := start()).server, ThreadPoolExecutor(1) as pool:
        models.write("m", SLEEPS)
        models.load("m")
        call = pool.submit(models.invoke, "m", b"50")
        models.server.wait_for_output("sleeps 50.0", PATIENCE_SECONDS)

        stopped = models.server.stop()

        assert call.exception() is not None
    assert (stopped.exit_code, stopped.ended_by) == (0, "SIGTERM")
    assert stopped.duration_seconds < 30


def test_end_of_the_server_ends_the_container(start: Start) -> None:
    """The container ends with multi-model-server (C-063)."""
    with (models := start()).server:
        _kill_java(models)

        assert models.server.wait(PATIENCE_SECONDS) == 1

    assert "multi-model-server ended with status 137" in models.server.output()


# A container's processes may belong to another user: they are killed from inside.
KILL_JAVA = """
import os, pathlib
for name in pathlib.Path("/proc").glob("[0-9]*/comm"):
    if name.read_text() == "java\\n":
        os.kill(int(name.parent.name), 9)
"""


def _kill_java(models: Models) -> None:
    if isinstance(models.backend, DockerBackend):
        docker("exec", models.server.name, "python", "-c", KILL_JAVA)
        return
    for process_id in models.server.process_ids():
        if Path(f"/proc/{process_id}/comm").read_text() == "java\n":
            os.kill(process_id, signal.SIGKILL)


@pytest.mark.docker_cases(0)
def test_two_servers_do_not_collide(start: Start) -> None:
    """Two servers on a host share neither ports nor files (C-092)."""
    with (one := start()).server, (other := start()).server:
        for models, slope in ((one, 1), (other, 2)):
            models.write_tree("m", slope)
            assert models.load("m").status == 200
        assert score(one.invoke("m", b"8,1\n")) == pytest.approx(predicted(1, [8, 1]))
        assert score(other.invoke("m", b"8,1\n")) == pytest.approx(predicted(2, [8, 1]))


def test_port_that_it_cannot_have_is_a_clear_end(start: Start) -> None:
    """Multi-model-server refuses ports above 32766 (C-042)."""
    with pytest.raises(ServerStartError) as failure:
        start(SAGEMAKER_BIND_TO_PORT="40000")

    assert failure.value.exit_code == 1
    assert "a port up to 32766" in failure.value.output


@pytest.mark.docker_cases(0)
def test_temporary_files_are_gone_with_the_server(start: Start, tmp_path: Path) -> None:
    """Sockets, configuration, and what the models have written there (C-040)."""
    with (models := start()).server:
        environment = Path(f"/proc/{models.server.process_ids()[1]}/environ").read_bytes()
        work_dir = Path(environment.partition(b"TMPDIR=")[2].partition(b"\0")[0].decode())
        assert work_dir.name.startswith("byoa-mms-")
        assert work_dir.is_dir()

    assert not work_dir.exists()


def test_any_user_and_a_read_only_root_will_do(image: str, tmp_path: Path) -> None:
    """Runs as any user with nothing writable but /tmp (C-005, C-068)."""
    options = ("--read-only", "--tmpfs", "/tmp", "--user", "12345:0")
    backend = DockerBackend(image, options)
    ml = MlTree(tmp_path / "ml").create()
    (tmp_path / "ml").chmod(0o755)
    environment = {"SAGEMAKER_MULTI_MODEL": "true", "BYOA_MULTI_MODEL_ENGINE": "mms"}
    with backend.start_server(ml, environment=environment) as server:
        models = Models(server, backend, ml)
        models.write_tree("m", 1)
        assert models.load("m").status == 200
        assert models.invoke("m").status == 200


def test_slim_image_says_what_it_lacks(slim_image: str, tmp_path: Path) -> None:
    """Names the missing engine at start, not at the first load (C-061)."""
    backend = DockerBackend(slim_image)
    environment = {"SAGEMAKER_MULTI_MODEL": "true", "BYOA_MULTI_MODEL_ENGINE": "mms"}

    with pytest.raises(ServerStartError) as failure:
        backend.start_server(MlTree(tmp_path / "ml").create(), environment=environment)

    assert failure.value.exit_code == 1
    assert "needs Java" in failure.value.output
    assert "run the full image" in failure.value.output
