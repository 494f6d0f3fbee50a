"""A registry of its own for each test, and models that are only numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve.invocation import Answer, Invocation
from serve.multi_model.model_registry import Model, Registry
from serve.multi_model.residency.versions import Versions


class Answering:
    """Answers every invocation with its generation."""

    has_own_formats = True
    limits_itself = False

    def __init__(self, generation: int, *, is_thread_safe: bool = True) -> None:
        self.generation = generation
        self.is_thread_safe = is_thread_safe

    def may_run_inline(self, invocation: Invocation) -> bool:
        return True

    def invoke(self, invocation: Invocation) -> Answer:
        return Answer(str(self.generation).encode(), "text/plain")

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def registry(tmp_path: Path, versions: Versions) -> Registry:
    return Registry(tmp_path, versions)


@pytest.fixture
def add(registry: Registry) -> Callable[..., Model]:
    """Register a model of so many bytes."""

    def register(name: str, n_bytes: int = 10) -> Model:
        generation = registry.reserve(name, "test", lambda owner: True)
        model = Model(generation, name, f"/models/{name}", "d", "s", "xgboost", n_bytes)
        assert registry.add(model)
        return model

    return register
