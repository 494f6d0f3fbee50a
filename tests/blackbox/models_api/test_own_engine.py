"""The `/models` API from outside, where all models share the workers."""

import json
import os
from contextlib import suppress
from http.client import HTTPException

import pytest

from local_test.invoke import ping
from tests.blackbox.models_api.conftest import Start
from tests.blackbox.models_api.models import Models
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("engine", ["gunicorn"], indirect=True, scope="session"),
]

LEAVES_A_PROCESS = """
    import os
    import time

    def model_fn(model_dir):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)

    def transform_fn(model, data, content_type, accept):
        os._exit(9)
"""


def test_process_that_a_model_has_left_behind_holds_nothing_up(start: Start) -> None:
    """A child of a dead worker that inherited its files delays nothing (C-085, C-090)."""
    with (models := start(SAGEMAKER_MODEL_SERVER_WORKERS="1")).server:
        models.write("forks", LEAVES_A_PROCESS)
        models.write_tree("other", 1)
        assert models.load("forks").status == 200
        with suppress(ConnectionError, HTTPException):
            models.invoke("forks")
        wait_for(lambda: ping(models.server.url).status == 200)

        assert models.unload("forks").status == 200
        assert models.load("other").status == 200
        assert models.unload("other").status == 200


def test_directory_that_no_model_looks_like_is_400(models: Models) -> None:
    """A name of any bytes, which JSON does not have, and more levels than Python has (C-082)."""
    odd, deep = models.directory("odd"), models.directory("deep")
    odd.mkdir(parents=True)
    (odd / os.fsdecode(b"\xff")).touch()
    deep.mkdir(parents=True)
    for _ in range(1100):
        deep = deep / "d"
        deep.mkdir()

    for name in ("odd", "odd", "deep"):
        answer = models.load(name)
        assert answer.status == 400
        assert json.loads(answer.body)["type"] == "InvalidModelException"
        assert name not in models.names()
    os.removedirs(deep)
