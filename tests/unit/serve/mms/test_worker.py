"""Loading a model for multi-model-server, whose status depends on what is raised."""

from collections.abc import Callable
from pathlib import Path

import pytest

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.mms.worker import Worker
from tests.unit.serve.conftest import ModelDirectory


class Artifact:
    """What `loading.inspect` finds; trying it does `work`."""

    is_fork_safe = True

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def try_out(self) -> None:
        self._work()

    def load(self) -> None:
        raise AssertionError("what failed its trial is not loaded")


def _run_out_of_memory() -> None:
    raise MemoryError


def _fail() -> None:
    raise ModelLoadError("the tree is a cycle")


@pytest.mark.parametrize(("work", "raised"), [(_run_out_of_memory, MemoryError), (_fail, None)])
def test_trial_without_memory_is_a_memory_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None], raised: type | None
) -> None:
    """C-081: multi-model-server makes 507 of it, and 500 of anything else."""
    monkeypatch.setattr(loading, "inspect", lambda directory, settings: Artifact(work))

    with pytest.raises(raised or ModelLoadError):
        Worker.load(tmp_path, Settings(model_roots=(tmp_path,)))


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
    """C-081: its code raises it while the model is loaded, and the reason names the function."""
    model_directory.write({"code/inference.py": script})

    with pytest.raises(raised, match="model_fn failed"):
        Worker.load(model_directory.path, Settings(model_roots=(model_directory.path,)))
