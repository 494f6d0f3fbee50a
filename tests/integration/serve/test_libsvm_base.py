"""The first libsvm column: of the training data, the operator's setting, or AWS's rule."""

import numpy as np
import pytest
import xgboost

from container import manifest
from container.manifest import Framework, ModelFacts
from serve.invocation import Invocation
from tests.unit.serve.conftest import ModelDirectory

RECORD = [2, 0.645, 0.5, 0.16, 1.2, 0.6, 0.28, 0.385]
ROWS = np.random.default_rng(0).random((300, 8), dtype=np.float32) * [4, *[1.5] * 7]


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    labels = ROWS @ np.arange(1, 9)
    return xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, labels), 20)


def _libsvm(record: list[float], first: int, leave_out: int | None = None) -> bytes:
    cells = [f"{n + first}:{cell}" for n, cell in enumerate(record) if n != leave_out]
    return f"10 {' '.join(cells)}\n".encode()


@pytest.mark.parametrize(("base", "first"), [((), 1), ((), 0), ((1,), 1), ((0,), 0)])
def test_what_stands_in_for_input_fn_counts_in_the_same_way(
    model_directory: ModelDirectory, booster: xgboost.Booster, base: tuple[int, ...], first: int
) -> None:
    """The default input_fn has the same base, for all kinds of models (C-101)."""
    model_directory.write({"xgboost-model": bytes(booster.save_raw("ubj"))})
    if base:
        facts = ModelFacts(framework=Framework(name="xgboost", version="3"), n_features=8)
        manifest.write(model_directory.path, "xgboost", facts, libsvm_base=base[0])
    expected = booster.predict(xgboost.DMatrix([RECORD]))

    for script in (
        "def model_warmup_fn(model_dir, model): pass",
        """
        import os, xgboost

        def model_fn(model_dir):
            with open(os.path.join(model_dir, "xgboost-model"), "rb") as file:
                return xgboost.Booster(model_file=bytearray(file.read()))
        """,
    ):
        servable = model_directory.load(script)
        invocation = Invocation(_libsvm(RECORD, first), "text/libsvm", "text/csv")
        answer = servable.invoke(invocation)
        assert isinstance(answer.body, bytes)
        np.testing.assert_allclose(float(answer.body), expected, rtol=1e-6)
