"""Loading a model for multi-model-server, whose status depends on what is raised."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.mms.model_worker import Request, Worker
from tests.unit.serve.conftest import ModelDirectory


class Artifact:
    """A fake of the result of `loading.inspect`; its validation does `work`."""

    is_fork_safe = True

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def validate(self) -> None:
        self._work()

    def load(self) -> None:
        raise AssertionError("a model that failed its validation run is not loaded")


def _run_out_of_memory() -> None:
    raise MemoryError


def _fail() -> None:
    raise ModelLoadError("the tree is a cycle")


@pytest.mark.parametrize(("work", "raised"), [(_run_out_of_memory, MemoryError), (_fail, None)])
def test_validation_run_without_memory_is_a_memory_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None], raised: type | None
) -> None:
    """Raises MemoryError, which multi-model-server answers with 507 (C-081)."""
    monkeypatch.setattr(loading, "inspect", lambda *_, **__: Artifact(work))

    with pytest.raises(raised or ModelLoadError):
        Worker.load(tmp_path, "m", Settings(model_roots=(tmp_path,)))


@pytest.mark.parametrize(
    ("script", "raised"),
    [
        ("def model_fn(model_dir): return bytearray(2**60)", MemoryError),
        ("def model_fn(model_dir): raise MemoryError('no room for it')", MemoryError),
        ("def model_fn(model_dir): raise ValueError('broken')", ModelLoadError),
    ],
)
def test_code_without_memory_is_a_memory_error(
    model_directory: ModelDirectory, script: str, raised: type[Exception]
) -> None:
    """Names the function that ran out of memory (C-081)."""
    model_directory.write({"code/inference.py": script})

    with pytest.raises(raised, match="model_fn failed"):
        Worker.load(model_directory.path, "m", Settings(model_roots=(model_directory.path,)))


def test_code_has_its_process_to_itself(model_directory: ModelDirectory) -> None:
    """Does not isolate modules: `importlib` works as usual (C-089)."""
    script = """
        import importlib

        def model_fn(model_dir):
            return importlib.import_module("features").NAME

        def transform_fn(model, data, content_type, accept, context):
            return f"{model} of {context.model_name}"
    """
    model_directory.write({"code/inference.py": script, "code/features.py": "NAME = 'mine'"})
    settings = Settings(
        is_multi_model=True, multi_model_engine="mms", model_roots=(model_directory.path,)
    )

    worker = Worker.load(model_directory.path, "m", settings)

    assert worker.reply(Request(b"1", {}, "id")).body == b"mine of m"


def test_line_of_an_invocation_names_the_model(
    model_directory: ModelDirectory,
    capfdbinary: pytest.CaptureFixture[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs the model's name and the client's name of it (C-087)."""
    script = "def model_fn(d): return 1\ndef transform_fn(*arguments): return 'x'"
    model_directory.write({"code/inference.py": script})
    settings = Settings(model_roots=(model_directory.path,))
    headers = {"x-amzn-sagemaker-target-model": "berlin.tar.gz"}

    with caplog.at_level(logging.INFO, "serve.http.access_log"):
        Worker.load(model_directory.path, "0f0f", settings).reply(Request(b"1", headers, "id"))

    line = json.loads(capfdbinary.readouterr().out.splitlines()[-1])
    assert (line["model_name"], line["target_model"]) == ("0f0f", "berlin.tar.gz")
