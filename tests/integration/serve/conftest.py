"""The fixtures of `tests/unit/serve`, and the end of the processes that serving starts."""

from collections.abc import Iterator

import pytest

from serve.runtime import decoder_pool
from tests.unit.serve.conftest import (
    client,
    metrics,
    model,
    model_directory,
    own_interpreter,
    servable,
    server,
)

__all__ = [
    "client",
    "metrics",
    "model",
    "model_directory",
    "own_interpreter",
    "servable",
    "server",
]


@pytest.fixture(autouse=True, scope="module")
def closed_decoders() -> Iterator[None]:
    """Stop the decoder processes that the tests of a module have started."""
    yield
    decoder_pool.POOL.close()
