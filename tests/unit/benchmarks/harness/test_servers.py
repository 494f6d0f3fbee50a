"""The declarations of the servers."""

import ast
from pathlib import Path

import pytest

from benchmarks.harness.servers import Server, all_servers, launch

SERVERS = all_servers()


def test_all_servers_has_ours_first_and_the_floor_last() -> None:
    """With the peers that the comparison promises between them."""
    assert list(SERVERS) == [
        "ours",
        *("classic", "inference_server", "kserve", "litserve", "mlserver", "multi_model_server"),
        "gunicorn_constant",
    ]


@pytest.mark.parametrize("server", SERVERS.values(), ids=list(SERVERS))
def test_launch_leaves_no_placeholder(server: Server, tmp_path: Path) -> None:
    """A misspelt one is an error when the server is read here, not in the middle of a run."""
    how = launch(
        server,
        environment_dir=tmp_path / "env",
        model_dir=tmp_path / "model",
        work_dir=tmp_path / "work",
        ports=[21000, 21001, 21002][: server.ports],
    )

    words = [*how.command, *how.environment.values()]
    assert not [word for word in words if "{" in word]
    assert any("21000" in word for word in words)
    assert how.environment["PATH"].startswith(str(tmp_path / "env" / "bin"))


@pytest.mark.parametrize("server", SERVERS.values(), ids=list(SERVERS))
def test_an_adapter_reads_only_variables_that_are_declared(server: Server) -> None:
    """A switch that nobody sets would silently run the peer otherwise than reports say."""
    adapters = server.directory.glob("*.py")
    read = {name for file in adapters for name in variables_read(ast.parse(file.read_text()))}

    assert read <= server.variables.keys()


def variables_read(module: ast.Module) -> set[str]:
    """Names in ``os.environ[name]``, ``os.environ.get(name)`` and ``os.getenv(name)``."""
    found = set()
    for node in ast.walk(module):
        match node:
            case ast.Subscript(ast.Attribute(attr="environ"), ast.Constant(str(name))) | ast.Call(
                ast.Attribute(ast.Attribute(attr="environ"), "get") | ast.Attribute(attr="getenv"),
                [ast.Constant(str(name)), *_],
            ):
                found.add(name)
    return found


def test_launch_gives_nothing_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable that tunes a server here would tune it nowhere else."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    how = launch(
        SERVERS["ours"],
        environment_dir=tmp_path,
        model_dir=tmp_path,
        work_dir=tmp_path,
        ports=[21000],
    )

    assert "OMP_NUM_THREADS" not in how.environment


def test_read_refuses_an_unknown_name(tmp_path: Path) -> None:
    """A misspelt option is not silently without effect."""
    file = tmp_path / "server.toml"
    file.write_text(
        'title = ""\npackage = ""\nformat = "csv"\nroute = ""\nworkers = ""\nsettings = ""\n'
        'command = []\nworker = "2"\n'
    )

    with pytest.raises(TypeError, match="worker"):
        Server.read(file)
