"""A script's functions, called for real invocations without a server."""

import json

import numpy as np
import pytest
import xgboost

from container.errors import (
    MalformedPayloadError,
)
from serve.invocation import Answer, Invocation
from tests.unit.serve.conftest import ModelDirectory


def _body(answer: Answer) -> bytes:
    assert isinstance(answer.body, bytes)
    return answer.body


def _booster() -> xgboost.Booster:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    return xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 3)


def test_without_model_fn_the_algorithms_model_is_loaded(model_directory: ModelDirectory) -> None:
    """Loads the algorithm's model, with its default content type."""
    booster = _booster()
    model_directory.write({"xgboost-model": bytes(booster.save_raw("ubj"))})
    expected = booster.predict(xgboost.DMatrix([[1, 2]]))

    servable = model_directory.load("""
        def output_fn(prediction, accept):
            return ",".join(map(repr, prediction.tolist()))
    """)

    for invocation in (Invocation(b"1,2", "text/csv"), Invocation(b"0:1 1:2")):
        body = _body(servable.invoke(invocation))
        np.testing.assert_allclose(float(body), expected, rtol=1e-6)
    with pytest.raises(MalformedPayloadError, match="3 features; the model takes 2"):
        servable.invoke(Invocation(b"1,2,3", "text/csv"))


def test_without_model_fn_the_users_predict_fn_gets_the_algorithms_model(
    model_directory: ModelDirectory,
) -> None:
    """Gives the algorithm's model to the user's predict_fn."""
    booster = _booster()
    model_directory.write({"xgboost-model": bytes(booster.save_raw("ubj"))})

    servable = model_directory.load("""
        def predict_fn(data, model):
            return model.predict(data) + 1000
    """)

    (predicted,) = json.loads(_body(servable.invoke(Invocation(b"1,2", "text/csv"))))
    np.testing.assert_allclose(
        predicted, booster.predict(xgboost.DMatrix([[1, 2]]))[0] + 1000, rtol=1e-6
    )
