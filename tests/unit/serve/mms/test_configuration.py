"""Configuration of multi-model-server."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from container.errors import PlatformError, SettingsError
from container.settings import Settings
from serve.mms import configuration

MIB = 2**20


@pytest.fixture
def fake_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a `java` on PATH and a package `mms`, neither of which can run."""
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/false\n")
    java.chmod(0o755)
    (tmp_path / "packages" / "mms").mkdir(parents=True)
    (tmp_path / "packages" / "mms" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "mms", raising=False)
    return {"PATH": str(tmp_path / "bin")}


def test_properties_are_the_settings_in_other_words() -> None:
    """Takes port, sizes, times, workers and queue from settings (C-042, C-050)."""
    settings = Settings(
        port=9000, workers=3, timeout_seconds=7, max_waiting=5, max_payload_bytes=2 * MIB
    )

    found = configuration.properties(settings, Path("/store"))

    assert found["inference_address"] == "http://0.0.0.0:9000"
    assert found["management_address"] == "http://0.0.0.0:9000"
    assert found["default_workers_per_model"] == 3
    assert found["default_response_timeout_seconds"] == 7
    assert found["job_queue_size"] == 5
    assert found["max_request_size"] == 2 * MIB
    assert found["default_service_handler"] == "serve.mms.handler:handle"


def test_properties_by_default_give_each_model_one_worker() -> None:
    """Gives each model one worker; 0 as limit of a body is the largest integer."""
    found = configuration.properties(Settings(max_payload_bytes=0, max_waiting=0), Path("/store"))

    assert found["default_workers_per_model"] == 1
    assert found["max_request_size"] == 2**31 - 1
    assert found["job_queue_size"] == 1


@pytest.mark.parametrize(
    ("max_payload_mebibytes", "memory_mebibytes", "heap_mebibytes"),
    [(100, 16384, 400), (6, 16384, 128), (100, 1024, 256), (100, 256, 128), (0, 16384, 128)],
)
def test_heap_holds_some_bodies_within_a_quarter_of_the_memory(
    max_payload_mebibytes: int, memory_mebibytes: int, heap_mebibytes: int
) -> None:
    """Leaves memory for the models, which are in other processes."""
    found = configuration.heap_bytes(max_payload_mebibytes * MIB, memory_mebibytes * MIB)

    assert found == heap_mebibytes * MIB


def test_port_that_multi_model_server_refuses_is_refused_with_the_reason() -> None:
    """Refuses the port with the reason, not with a stack trace."""
    configuration.check(Settings(port=32766))

    with pytest.raises(SettingsError, match="a port up to 32766"):
        configuration.check(Settings(port=32767))


def test_command_runs_java_with_the_files_that_were_written(
    tmp_path: Path, fake_environment: dict[str, str]
) -> None:
    """Keeps the caller's environment, and lets the workers import the product."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    settings = Settings(base_dir=tmp_path / "ml", port=9000, log_level=30)

    command = configuration.prepare(
        settings,
        work_dir,
        "/usr/bin/python3",
        {**fake_environment, "PYTHONPATH": "/mine", "A": "b"},
    )

    root = str(Path(configuration.__file__).parents[2])
    assert command.program == f"{fake_environment['PATH']}/java"
    assert command.arguments[-4:-2] == ("--python", "/usr/bin/python3")
    assert f"-Dmodel_server_home={tmp_path}/packages" in command.arguments
    assert command.environment["PYTHONPATH"] == f"{root}:/mine"
    assert command.environment["PYTHONSAFEPATH"] == "1"
    assert command.environment["A"] == "b"
    assert command.environment["TMPDIR"] == str(work_dir)
    lines = (work_dir / "config.properties").read_text().splitlines()
    assert f"model_store={work_dir}/store" in lines
    log = ElementTree.parse(work_dir / "log4j2.xml")  # noqa: S314 -- written by ourselves
    assert log.find("./Loggers/Root").attrib == {"level": "warn"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("missing", "problem"),
    [("java", "needs Java, which is not in PATH"), ("mms", "the package multi-model-server")],
)
def test_what_is_missing_is_named_with_a_remedy(
    tmp_path: Path,
    fake_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    problem: str,
) -> None:
    """Names what is missing in the slim image."""
    if missing == "java":
        (tmp_path / "bin" / "java").unlink()
    else:  # where it is installed, it is not found either
        monkeypatch.setitem(sys.modules, "mms", None)

    with pytest.raises(PlatformError, match=f"{problem}.*run the full image"):
        configuration.prepare(Settings(), tmp_path, "python", {**fake_environment})


def test_java_home_goes_before_path(tmp_path: Path, fake_environment: dict[str, str]) -> None:
    """Prefers JAVA_HOME, as multi-model-server's own command does."""
    with pytest.raises(PlatformError, match=f"which is not in JAVA_HOME={tmp_path}/jdk"):
        configuration.prepare(
            Settings(), tmp_path, "python", {**fake_environment, "JAVA_HOME": f"{tmp_path}/jdk"}
        )


def test_store_shows_the_roots_under_their_own_paths_and_nothing_else(tmp_path: Path) -> None:
    """Has no `/etc` in the store, so that it cannot be loaded as a model."""
    (tmp_path / "ml/models/a").mkdir(parents=True)
    (tmp_path / "more").mkdir()
    store = tmp_path / "store"

    configuration.link_roots(
        store, (tmp_path / "ml/models/a", tmp_path / "more", tmp_path / "ml/models")
    )

    seen = store / str(tmp_path)[1:]
    assert (seen / "ml/models/a").is_dir()
    assert sorted(path.name for path in seen.iterdir()) == ["ml", "more"]
    assert not (store / "etc").exists()


def test_store_has_a_root_that_does_not_exist_yet(tmp_path: Path) -> None:
    """Links a root that the platform makes later."""
    configuration.link_roots(tmp_path / "store", (tmp_path / "models",))
    (tmp_path / "models" / "a").mkdir(parents=True)

    assert (tmp_path / "store" / str(tmp_path)[1:] / "models" / "a").is_dir()


def test_store_of_the_whole_file_system(tmp_path: Path) -> None:
    """Accepts BYOA_MODEL_ROOTS=/, as in AWS's images."""
    configuration.link_roots(tmp_path / "store", (Path("/"), tmp_path))

    assert (tmp_path / "store" / str(tmp_path)[1:]).is_dir()
