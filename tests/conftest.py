"""Hygiene for every test, and the image for those that need a Docker engine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_test.docker_engine import engine_answers, image_exists

# Before any test imports a framework: some tests fork, and a process that has OpenMP's threads
# cannot do that and go on.
os.environ["OMP_NUM_THREADS"] = "1"

_QUICK_FOLDERS = tuple(Path(__file__).parent / name for name in ("unit", "corpus", "architecture"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the quick folders, from which `make test` takes all."""
    for item in items:
        if any(folder in item.path.parents for folder in _QUICK_FOLDERS):
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """No test changes the environment of the next one."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def image() -> str:
    """The full image that BYOA_IMAGE names; without it the test is skipped, or fails in CI."""
    image = os.environ.get("BYOA_IMAGE", "")
    problem = ""
    if not engine_answers():
        problem = "no Docker engine answers"
    elif not image:
        problem = "BYOA_IMAGE names no image"
    elif not image_exists(image):
        problem = f"the engine has no image {image!r} (BYOA_IMAGE); run: make image"
    if problem and os.environ.get("BYOA_REQUIRE_DOCKER") == "1":
        pytest.fail(f"BYOA_REQUIRE_DOCKER=1, but {problem}")
    if problem:
        pytest.skip(problem)
    return image


@pytest.fixture(scope="session")
def slim_image(image: str) -> str:
    """The image with XGBoost only."""
    return f"{image.partition(':')[0]}:slim"
