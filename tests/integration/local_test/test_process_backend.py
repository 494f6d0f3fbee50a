"""Features of process mode alone: the caller's own ports, directories and process table."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from local_test.backends import ProcessBackend
from local_test.host_process import LOOPBACK, members_of_group, reserve_port
from local_test.ml_tree import MlTree
from local_test.outcomes import PortInUseError
from tests.waiting import PATIENCE_SECONDS


def test_program_finds_its_tree_and_its_source(process_backend: ProcessBackend, ml: MlTree) -> None:
    """The variables that replace the mount and the image's own settings are set."""
    backend = dataclasses.replace(process_backend, program_dir=ml.root)

    backend.run_training(ml)

    environment = (ml.model_dir / "model.json").read_text()
    assert f'"SAGEMAKER_BASE_DIR": "{ml.root}"' in environment
    assert f'"PYTHONPATH": "{ml.root}"' in environment
    assert '"PYTHONSAFEPATH": "1"' in environment


def test_relative_tree_works_from_any_directory(
    process_backend: ProcessBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree named relative to the caller's directory is found by a program that runs elsewhere."""
    monkeypatch.chdir(tmp_path)
    ml = MlTree(Path("relative")).create()

    run = process_backend.run_training(ml)

    assert run.exit_code == 0
    assert (tmp_path / "relative" / "model" / "model.json").exists()


def test_child_that_outlives_the_program_is_killed(
    process_backend: ProcessBackend, ml: MlTree
) -> None:
    """As a container would, the end of a program takes its orphans with it."""
    server = process_backend.start_server(ml, environment={"FAKE": "has a worker"})
    assert len(server.process_ids()) == 2

    server.send_signal(signal.SIGKILL)
    server.wait(timeout_seconds=PATIENCE_SECONDS)

    assert not list(members_of_group(server.process_id))
    server.close()


def test_port_in_use_is_an_error_at_once(process_backend: ProcessBackend, ml: MlTree) -> None:
    """A stranger on the wanted port is never mistaken for the server."""
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1]

        with pytest.raises(PortInUseError, match=f"port {port} of 127.0.0.1 is not free"):
            process_backend.start_server(ml, port=port)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a port can be held only on Linux")
def test_reserved_port_is_free_for_the_server_only() -> None:
    """While a port is held, one that sets SO_REUSEADDR may listen on it, and no other may."""
    port, reservation = reserve_port()
    assert reservation is not None

    with reservation, socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((LOOPBACK, port))
    port, reservation = reserve_port()
    assert reservation is not None
    with reservation, socket.create_server(("", port)) as server:
        assert server.getsockname()[1] == port


def test_command_that_does_not_exist_is_an_error(ml: MlTree) -> None:
    """A program that cannot be started raises, and leaves nothing open."""
    with pytest.raises(FileNotFoundError):
        ProcessBackend(command=("no-such-program",)).start_server(ml)


def test_forgotten_program_is_killed_at_exit(
    process_backend: ProcessBackend, ml: MlTree, tmp_path: Path
) -> None:
    """A test run that breaks off leaves no process behind."""
    script = textwrap.dedent(f"""
        from pathlib import Path
        from local_test.backends import ProcessBackend
        from local_test.ml_tree import MlTree

        backend = ProcessBackend(command={process_backend.command!r}, program_dir=Path("/"))
        server = backend.start_server(MlTree(Path({str(ml.root)!r})))
        print(server.process_id, flush=True)
        raise SystemExit("broke off")
    """)

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "broke off" in run.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.stdout), 0)
