"""Multi-model endpoints from outside: every kind of model in one server, hostile ones included."""

import io
import json
import os
import pickle
import random
import re
from pathlib import Path

import joblib
import numpy as np
import pytest
import xgboost

from local_test.backends import ProcessBackend
from tests.blackbox.multi_model.conftest import (
    N_FEATURES,
    Fleet,
    StartFleet,
    constant_model,
    error_of,
)
from tests.waiting import wait_for

PLUGIN = '''
"""An algorithm of somebody else's: the distance to the nearest centre."""

import json

import numpy as np

from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities


class Centres:
    def __init__(self, centres):
        self._centres = np.array(centres, dtype=np.float32)
        self.n_features = self._centres.shape[1]

    def predict(self, features):
        distances = np.linalg.norm(features[:, None] - self._centres, axis=2)
        return distances.min(axis=1).astype(np.float32)


class Nearest(Algorithm):
    name = "nearest"
    request_types = ("text/csv",)
    response_types = ("application/json",)
    capabilities = Capabilities(is_fork_safe=True, is_thread_safe=True, is_quick=True)

    def recognises(self, directory):
        return (directory / "centres.json").is_file()

    def fit(self, job):
        raise NotImplementedError

    def load(self, directory, manifest, options):
        return Centres(json.loads((directory / "centres.json").read_text()))


ALGORITHM = Nearest()
'''
SCRIPT = """
    import os, sys
    sys.path.append(os.path.dirname(__file__))

    import helpers
    from package import CONSTANT
    from package.deep import constant as deep

    def model_fn(model_dir):
        return helpers.NAME

    def input_fn(body, content_type):
        return body

    def predict_fn(body, model):
        import helpers as again
        import late
        from package import later
        own_name = __name__.partition("@")[0]
        return [model, again.NAME, late.NAME, CONSTANT, deep(), later.NAME, own_name]

    def output_fn(prediction, accept):
        import json
        return json.dumps(prediction), "application/json"
"""


def own_code(name: str) -> dict[str, str | bytes]:
    """A model whose modules are called as those of every other one."""
    return {
        "code/inference.py": SCRIPT,
        "code/helpers.py": f"NAME = {name!r}",
        "code/late.py": "import helpers\nNAME = helpers.NAME + ' late'",
        "code/package/__init__.py": f"CONSTANT = 'constant of {name}'",
        "code/package/deep.py": "def constant():\n    from . import CONSTANT\n    return CONSTANT",
        "code/lib/unused.py": "",
        "code/package/later.py": "from helpers import NAME\nNAME += ' later'",
    }


def install_plugin(fleet: Fleet) -> None:
    directory = fleet.ml.root / "plugins"
    directory.mkdir()
    (directory / "nearest_plugin.py").write_text(PLUGIN)
    info = directory / "nearest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nearest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[byoa.algorithms]\nnearest = nearest_plugin:ALGORITHM\n"
    )


def test_equally_named_modules_do_not_meet(fleet: Fleet) -> None:
    """Keeps them apart also when imported late, in turns, and after an unload (C-089)."""
    for name in ("one", "two", "three"):
        fleet.write(name, own_code(name))
        assert fleet.load(name).status == 200, fleet.load(name).text

    for _ in range(5):
        for name in ("one", "two", "three"):
            seen = json.loads(fleet.invoke(name, b"x").body)
            assert seen == [
                *(name, name, f"{name} late", f"constant of {name}", f"constant of {name}"),
                *(f"{name} later", "inference"),
            ]
    fleet.unload("two")
    fleet.write("two", own_code("second"))
    fleet.load("two")

    assert json.loads(fleet.invoke("two", b"x").body)[0] == "second"
    assert json.loads(fleet.invoke("one", b"x").body)[0] == "one"


def test_code_is_told_the_name_of_its_model(fleet: Fleet) -> None:
    """The context has the platform's name, and the request's Target-Model header (C-087)."""
    script = """
        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept, context):
            return context.model_name + " " + context.get_request_header(
                0, "X-Amzn-SageMaker-Target-Model"
            )
    """
    fleet.write("place", {"code/inference.py": script})
    fleet.load("a/name", "place")

    answer = fleet.invoke("a/name", b"x", **{"X-Amzn-SageMaker-Target-Model": "t.tar.gz"})

    assert answer.text == "a/name t.tar.gz"


def test_xgboost_models_in_every_form_answer_side_by_side(fleet: Fleet) -> None:
    """UBJSON, JSON, pickles as of AWS's container, files of joblib, and an ensemble (C-079)."""
    rng = np.random.default_rng(7)
    records = rng.normal(size=(200, N_FEATURES)).astype(np.float32)
    labels = records @ np.array([1, -2, 3], dtype=np.float32)
    booster = xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(records, labels), 5)
    expected = float(booster.predict(xgboost.DMatrix(np.float32([[1, 2, 3]])))[0])
    ubj = bytes(booster.save_raw("ubj"))
    estimator = xgboost.XGBRegressor(max_depth=3, n_jobs=1, n_estimators=5).fit(records, labels)
    estimator.kept = np.arange(10)
    forms = {
        "ubj": {"xgboost-model": ubj},
        "json": {"model.json": bytes(booster.save_raw("json"))},
        "pickle": {"xgboost-model": pickle.dumps(booster)},
        "joblib": {"model.joblib": _joblib(estimator)},
        "compressed": {"model.joblib.xz": _joblib(estimator, compress="xz")},
        "foreign": {"some.ubj": ubj, "._some.ubj": b"junk", "README": "text"},
        "ensemble": {"xgboost-model-0": ubj, "xgboost-model-1": constant_model(0.0)},
    }
    for name, files in forms.items():
        fleet.write(name, files)
        loaded = fleet.load(name)
        assert loaded.status == 200, (name, loaded.text)

    answers = {name: float(fleet.invoke(name).body) for name in forms}

    assert answers == pytest.approx(
        dict.fromkeys(forms, expected) | {"ensemble": expected / 2},
        rel=1e-5,
    )


def _joblib(content: object, compress: str | int = 0) -> bytes:
    stream = io.BytesIO()
    joblib.dump(content, stream, compress=(compress, 3) if compress else 0)
    return stream.getvalue()


class _Touch:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return (os.mkdir, (self._path,))


@pytest.mark.parametrize("compress", [0, "gzip"])
@pytest.mark.parametrize("in_array", [False, True])
def test_hostile_joblib_file_is_refused_and_not_run(
    fleet: Fleet, compress: str | int, in_array: bool
) -> None:
    """The canary would lie beside the model (C-082, C-089)."""
    fleet.write("hostile", {"model.joblib": b""})
    evil = _Touch(f"{fleet.url('hostile')}/canary")
    hostile = np.array([evil], dtype=object) if in_array else [np.arange(3), evil]
    fleet.write("hostile", {"model.joblib": _joblib(hostile, compress)})

    refused = fleet.load("hostile")

    assert error_of(refused)[0] == 400
    assert ("not numbers or text" if in_array else "posix.mkdir") in refused.text
    assert not (fleet.path("hostile") / "canary").exists()


def test_plugin_algorithm_serves_beside_xgboost(start_fleet: StartFleet) -> None:
    """An algorithm of an installed wheel is served as the built-in is (C-079)."""
    with start_fleet(BYOA_MODEL_MEMORY_MB="100") as fleet:
        install_plugin(fleet)  # the server imports a wheel when it meets a model of it
        program = (
            str(fleet.backend.program_dir)
            if isinstance(fleet.backend, ProcessBackend)
            else "/opt/program"
        )
        plugins = fleet.backend.path_inside(fleet.ml, fleet.ml.root / "plugins")
    environment = {"PYTHONPATH": f"{program}:{plugins}", "SAGEMAKER_MULTI_MODEL": "true"}
    with fleet.backend.start_server(fleet.ml, environment=environment) as server:
        fleet = Fleet(fleet.backend, fleet.ml, server)
        fleet.write("centres", {"centres.json": "[[0, 0, 0], [1, 2, 5]]"})
        fleet.write_constant("trees", 8.0)

        assert fleet.load("centres").status == fleet.load("trees").status == 200

        assert json.loads(fleet.describe("centres").body)["algorithm"] == "nearest"
        assert json.loads(fleet.invoke("centres", Accept="*/*").body) == {
            "predictions": [{"score": 2.0}]
        }
        assert float(fleet.invoke("trees").body) == 8.0
        fleet.write("broken", {"centres.json": "[[0, "})
        assert fleet.load("broken").status == 400


HOSTILE_CODE = {
    "exits": "import os; os._exit(3)",
    "raises": "raise ValueError('secret of the model')",
    "leaves": "import sys; sys.exit(0)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "kills": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "kills its group": "import os, signal; os.killpg(0, signal.SIGTERM)",
    "is no Python": "def (",
    "defines nothing": "x = 1",
    "recurses": "def f():\n    f()\nf()",
    "closes everything": "import os; os.closerange(0, 1000); raise SystemExit",
}


@pytest.mark.parametrize("deed", HOSTILE_CODE)
def test_hostile_code_is_refused_and_hurts_nobody(fleet: Fleet, deed: str) -> None:
    """Validates code in a process of its own first (C-082, C-089)."""
    fleet.write_constant("good", 1.0)
    fleet.load("good")
    before = fleet.processes("worker")
    fleet.write("bad", {"code/inference.py": HOSTILE_CODE[deed]})

    refused = fleet.load("bad")

    assert error_of(refused) == (400, "InvalidModelException", "model_load_failed")
    assert "Traceback" not in refused.text
    assert fleet.names() == ["good"]
    assert float(fleet.invoke("good").body) == 1.0
    assert fleet.processes("worker") == before
    wait_for(lambda: not fleet.processes("validation-run"))


def test_mutated_models_hurt_nobody(fleet: Fleet) -> None:
    """Refuses or serves each of 60 models with flipped bits or missing bytes (C-082, C-089)."""
    chance = random.Random(5)  # noqa: S311 - a schedule that can be repeated
    fleet.write_constant("good", 1.0)
    fleet.load("good")
    before = fleet.processes("worker")
    original = constant_model(3.0)
    statuses = []
    for index in range(60):
        content = bytearray(original)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        fleet.write("bad", {"xgboost-model": bytes(content)})
        answer = fleet.load(f"bad-{index}", "bad")
        statuses.append(answer.status)
        if answer.status == 200:
            assert fleet.invoke(f"bad-{index}").status in (200, 400, 500)
            fleet.unload(f"bad-{index}")

    assert set(statuses) <= {200, 400}
    assert statuses.count(400) > 20
    assert fleet.names() == ["good"]
    assert float(fleet.invoke("good").body) == 1.0
    assert fleet.processes("worker") == before


def test_model_whose_sizes_lie_is_refused_and_hurts_nobody(fleet: Fleet) -> None:
    """Trees of more outputs than the model, more outputs than trees, and no trees at all
    (C-089).
    """
    features = np.random.default_rng(1).random((100, 3))
    matrix = xgboost.DMatrix(features, features[:, :2])
    strategy = {"multi_strategy": "multi_output_tree", "nthread": 1}
    overflowing, boundless = (
        json.loads(xgboost.train(strategy, matrix, n_rounds).save_raw("json"))
        for n_rounds in (2, 3)
    )
    overflowing["learner"]["learner_model_param"].update(num_target="1", base_score="5E-1")
    boundless["learner"]["learner_model_param"].update(num_target="4194304", base_score="5E-1")
    lies = {
        "have 2 values .* the model has 1 output ": json.dumps(overflowing).encode(),
        "have 2 values .* the model has 4194304 outputs": json.dumps(boundless).encode(),
        "trained for 0 rounds": bytes(xgboost.train({}, matrix, 0).save_raw("ubj")),
    }
    fleet.write_constant("good", 1.0)
    fleet.load("good")
    before = fleet.processes("worker")
    for place, (problem, content) in enumerate(lies.items()):
        fleet.write(f"lie{place}", {"xgboost-model": content})

        refused = fleet.load(f"lie{place}")

        assert error_of(refused) == (400, "InvalidModelException", "model_load_failed")
        assert re.search(problem, refused.text)
    assert float(fleet.invoke("good").body) == 1.0
    assert fleet.processes("worker") == before


def test_refused_model_is_refused_again_without_a_trial(one_worker_fleet: Fleet) -> None:
    """The verdict is remembered by digest, also for another name and place (C-082)."""
    fleet = one_worker_fleet
    for place in ("bad", "copy"):
        fleet.write(place, {"xgboost-model": b"{" + b"x" * 10_000})
    first = fleet.load("bad")

    again = fleet.load("other", "copy")

    assert (first.status, again.status) == (400, 400)
    assert json.loads(first.body)["message"] == json.loads(again.body)["message"]


def test_odd_files_are_refused(fleet: Fleet) -> None:
    """A FIFO is not waited for, and a link does not lead out (C-082)."""
    import os

    fleet.write_constant("fifo", 1.0)
    os.mkfifo(fleet.path("fifo") / "pipe")
    fleet.write_constant("link", 1.0)
    (fleet.path("link") / "passwd").symlink_to("/etc/passwd")
    fleet.write_constant("inner", 1.0)
    (fleet.path("inner") / "alias").symlink_to("xgboost-model")

    assert error_of(fleet.load("fifo"))[0] == 400
    assert error_of(fleet.load("link"))[0] == 400
    assert Path(fleet.path("inner") / "alias").is_symlink()
