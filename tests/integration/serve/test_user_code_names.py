"""Columns with names where a user's code leaves decoding, predicting or both to the container."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from container.errors import MalformedPayloadError
from serve.invocation import Invocation
from serve.user_code.servable import ScriptServable
from tests.unit.serve.conftest import ModelDirectory

NAMES = ["age", "income"]
ROWS = np.random.default_rng(0).random((40, 2)).astype(np.float32)
LABELS = ROWS[:, 0] - 3 * ROWS[:, 1]
PARQUET = "application/x-parquet"


def booster() -> xgboost.Booster:
    return xgboost.train({}, xgboost.DMatrix(ROWS, LABELS, feature_names=NAMES), 5)


def scores(servable: ScriptServable, names: Sequence[str], called: Sequence[str]) -> list[float]:
    """Invoke with columns called `names`."""
    body = io.BytesIO()
    columns = [pa.array(ROWS[:, NAMES.index(name)]) for name in names]
    pq.write_table(pa.Table.from_arrays(columns, list(called)), body)
    answer = servable.invoke(Invocation(body.getvalue(), PARQUET, "text/csv"))
    assert isinstance(answer.body, bytes)
    return [float(line) for line in answer.body.split()]


MODEL_FNS = {
    "algorithm": """
    def model_warmup_fn(model_dir, model):
        pass
""",
    "booster": """
    import xgboost

    def model_fn(model_dir):
        return xgboost.Booster(model_file=f"{model_dir}/xgboost-model.json")
""",
    "estimator": """
    import xgboost

    def model_fn(model_dir):
        estimator = xgboost.XGBRegressor()
        estimator.load_model(f"{model_dir}/xgboost-model.json")
        return estimator
""",
}


@pytest.mark.parametrize("model_fn", MODEL_FNS.values(), ids=MODEL_FNS)
def test_parquet_is_read_in_the_order_of_the_model(
    model_directory: ModelDirectory, model_fn: str
) -> None:
    """Columns match by name where the container reads the body (C-103)."""
    trained = booster()
    trained.save_model(model_directory.path / "xgboost-model.json")
    servable = model_directory.load(model_fn)

    expected = trained.predict(xgboost.DMatrix(ROWS, feature_names=NAMES))
    for names in (NAMES, NAMES[::-1]):
        np.testing.assert_allclose(scores(servable, names, names), expected, rtol=1e-6)
    with pytest.raises(MalformedPayloadError, match="missing: 'income'; unknown: 'salary'"):
        scores(servable, NAMES, ["age", "salary"])
