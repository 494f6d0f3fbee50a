"""Features of Docker mode alone: mounts, networks, file owners and containers to remove."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from local_test.backends import DockerBackend
from local_test.docker_engine import EngineError, can_publish, docker, engine_answers
from local_test.invoke import ping
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError, UnreachableServerError

SOCKET = Path("/var/run/docker.sock")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), True),
        (("--memory", "1g", "--network", "mine"), True),
        (("--network", "none"), False),
        (("--network=host",), False),
        (("--net", "container:other"), False),
    ],
)
def test_port_is_published_where_the_network_allows_it(
    options: tuple[str, ...], expected: bool
) -> None:
    """The engine refuses to publish on a network that is not the container's own."""
    assert can_publish(options) is expected


def test_missing_client_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Docker the question is answered, not failed; a command says what to do."""
    monkeypatch.setenv("BYOA_DOCKER", "no-such-docker")

    assert not engine_answers()
    with pytest.raises(EngineError, match="name its client in BYOA_DOCKER"):
        docker("version")


def test_hanging_engine_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for an engine is bounded."""
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\nexec sleep 60\n")
    client.chmod(0o755)
    monkeypatch.setenv("BYOA_DOCKER", str(client))

    assert not engine_answers(timeout_seconds=0.2)


@pytest.mark.docker
def test_wrong_option_is_an_error_that_leaves_nothing(
    docker_backend: DockerBackend, ml: MlTree
) -> None:
    """The engine's own words are passed on."""
    backend = dataclasses.replace(docker_backend, options=("--memory", "plenty"))

    with pytest.raises(EngineError, match="plenty"):
        backend.start_training(ml)


@pytest.mark.docker
def test_container_is_removed_when_it_is_closed(docker_backend: DockerBackend, ml: MlTree) -> None:
    """Neither a stopped nor a finished container stays."""
    server = docker_backend.start_server(ml)
    name = server.name
    assert docker("ps", "--quiet", "--filter", f"name={name}")

    server.stop()

    assert not docker("ps", "--all", "--quiet", "--filter", f"name={name}")


@pytest.mark.docker
def test_forgotten_container_is_removed_at_exit(docker_backend: DockerBackend, ml: MlTree) -> None:
    """A test run that breaks off leaves no container behind."""
    script = textwrap.dedent(f"""
        from pathlib import Path
        from local_test.backends import DockerBackend
        from local_test.ml_tree import MlTree

        backend = DockerBackend({docker_backend.image!r}, {docker_backend.options!r})
        print(backend.start_server(MlTree(Path({str(ml.root)!r}))).name, flush=True)
        raise SystemExit("broke off")
    """)

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "broke off" in run.stderr
    name = run.stdout.strip()
    assert name.startswith("byoa-local-test-")
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={name}")


@pytest.mark.docker
def test_model_is_read_only_to_a_server(docker_backend: DockerBackend, ml: MlTree) -> None:
    """As on the platform, a server that writes into its model fails."""
    with pytest.raises(ServerStartError, match="Read-only file system"):
        docker_backend.start_server(ml, environment={"FAKE": "writes the model"})


@pytest.mark.docker
def test_server_on_a_network_without_exit_is_reached(
    docker_backend: DockerBackend, ml: MlTree
) -> None:
    """The container's own address is used if no port can be published."""
    network = f"byoa-local-test-{os.getpid()}"
    docker("network", "create", "--internal", network)
    try:
        backend = dataclasses.replace(
            docker_backend, options=(*docker_backend.options, "--network", network)
        )
        with backend.start_server(ml) as server:
            assert ping(server.url).status == 200
    finally:
        docker("network", "rm", network)


@pytest.mark.docker
def test_server_in_the_network_of_another_is_reached(
    docker_backend: DockerBackend, ml: MlTree
) -> None:
    """Two copies with different ports share one network namespace, as in a pipeline."""
    with docker_backend.start_server(ml) as one:
        options = (*docker_backend.options, "--network", f"container:{one.name}")
        backend = dataclasses.replace(docker_backend, options=options)
        with backend.start_server(ml, environment={"SAGEMAKER_BIND_TO_PORT": "8081"}) as other:
            assert ping(one.url).status == ping(other.url).status == 200


@pytest.mark.docker
def test_server_without_network_cannot_be_waited_for(
    docker_backend: DockerBackend, ml: MlTree
) -> None:
    """No address leads there; such a server can be started, and entered with docker exec."""
    backend = dataclasses.replace(
        docker_backend, options=(*docker_backend.options, "--network", "none")
    )

    with pytest.raises(UnreachableServerError, match="no address leads"):
        backend.start_server(ml)
    with backend.start_server(ml, wait_until_ready=False) as server:
        server.wait_for_output("listening")  # before, PID 1 would ignore SIGTERM
        assert docker("exec", server.name, "python", "-c", "print(1 + 1)") == "2"


@pytest.mark.docker
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user to try this")
def test_files_of_a_container_belong_to_a_caller_who_is_not_root(
    docker_backend: DockerBackend,
) -> None:
    """After a run the caller owns, and so can delete, what root in the container wrote."""
    user = 12345
    root = Path(tempfile.mkdtemp())  # tmp_path lies in a directory that only root may enter
    root.chmod(0o755)
    ml = MlTree(root / "ml").create()
    for path in (ml.root, *ml.root.rglob("*")):
        os.chown(path, user, user)

    script = textwrap.dedent(f"""
        import os
        import sys
        from pathlib import Path
        from local_test.backends import DockerBackend
        from local_test.ml_tree import MlTree

        # Only now: another user may not be allowed to read what was imported.
        os.setgroups([Path("{SOCKET}").stat().st_gid])
        os.setgid({user})
        os.setuid({user})
        ml = MlTree(Path({str(ml.root)!r}))
        run = DockerBackend({docker_backend.image!r}, {docker_backend.options!r}).run_training(ml)
        sys.exit(run.exit_code)
    """)

    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": str(root)},
        capture_output=True,
        text=True,
    )

    owners = {path.stat().st_uid for path in ml.root.rglob("*")}
    model_files = ml.model_files()
    shutil.rmtree(root)
    assert (run.returncode, run.stderr) == (0, "")
    assert model_files == ("model.json",)
    assert owners == {user}
