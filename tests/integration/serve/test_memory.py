"""Failed requests leave no reference cycles in memory."""

import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from container.codecs.records import Floats, SparseRows
from container.errors import MalformedPayloadError, OverloadedError, PredictionError
from serve.runtime.row_parallelism import BLOCK_ROWS, RowBlockPool
from tests.unit.serve.conftest import Client, Server, SumModel
from tests.waiting import PATIENCE_SECONDS

CSV = {"Content-Type": "text/csv"}
LARGE = 2**17


@pytest.fixture
def n_left() -> Iterator[Callable[[type[Exception]], int]]:
    """Count the exceptions that a test leaves without a garbage collection."""
    logging.disable()  # pytest keeps what is logged, tracebacks included
    gc.collect()
    gc.disable()
    before = Counter(map(type, gc.get_objects()))

    def count(kind: type[Exception]) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS  # for every thread to come to its end
        while True:
            n_more = Counter(map(type, gc.get_objects()))[kind] - before[kind]
            if n_more <= 0 or time.monotonic() > deadline:
                return n_more
            time.sleep(0.01)

    yield count
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("n_bytes", "kind"),
    [
        (10, MalformedPayloadError),
        (LARGE, MalformedPayloadError),
        (LARGE, OverloadedError),
        (10, PredictionError),
        (LARGE, PredictionError),
    ],
    ids=["small", "large", "overloaded", "failed", "failed-large"],
)
def test_error_is_forgotten_once_it_is_answered(
    server: Server,
    model: SumModel,
    n_left: Callable[[type[Exception]], int],
    n_bytes: int,
    kind: type[Exception],
) -> None:
    """The error is freed: its traceback refers to frames, and they to the body."""
    limits = {"max_payload_bytes": 2 * LARGE, "max_held_bytes": 2 * LARGE}
    if kind is OverloadedError:
        limits["max_held_bytes"] = LARGE - 1
    client: Client = server.client(**limits)
    if kind is PredictionError:
        model.error = PredictionError("no")
    body = b"1,2\n" * (n_bytes // 4) + (b"" if kind is PredictionError else b"x,y")

    for _ in range(3):
        assert client.request("POST", "/invocations", body, CSV).status >= 400
    model.error = None

    assert n_left(kind) <= 0


def test_error_of_a_block_is_forgotten(n_left: Callable[[type[Exception]], int]) -> None:
    """An error of a row block in another thread is freed, too."""

    class Refusing:
        n_features = 1

        def predict(self, features: Floats | SparseRows) -> Floats:
            at_once.wait()  # the helpers' blocks are theirs
            raise PredictionError("no")

    at_once = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    helpers = RowBlockPool(2)
    features = np.zeros((4 * BLOCK_ROWS, 1), dtype=np.float32)

    for _ in range(3):
        with pytest.raises(PredictionError):
            helpers.predict(Refusing(), features)

    assert n_left(PredictionError) <= 0
