"""Models that must not be served: each ends the server at once, with the reason and exit code 1."""

import json
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError
from tests.blackbox.conftest import Trained
from tests.waiting import PATIENCE_SECONDS

RANDOM = np.random.default_rng(11)
FEATURES = RANDOM.random((300, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    labels = FEATURES[:, 0] * FEATURES[:, 1]
    parameters = {"nthread": 1, "max_depth": 4}
    return xgboost.train(parameters, xgboost.DMatrix(FEATURES, labels), 5)


def _tree(tmp_path: Path, files: dict[str, bytes]) -> MlTree:
    ml = MlTree(tmp_path / "hostile").create()
    for name, content in files.items():
        (ml.model_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (ml.model_dir / name).write_bytes(content)
    return ml


def _refusal(backend: Backend, ml: MlTree) -> str:
    """The last line of a server that does not start, once all that must hold of it does."""
    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, ready_timeout_seconds=PATIENCE_SECONDS)
    assert caught.value.exit_code == 1
    failures = [
        line
        for line in map(json.loads, caught.value.output.splitlines())
        if line["event"] == "server_failed"
    ]
    assert [line["code"] for line in failures] == ["model_load_failed"]
    assert "Traceback" not in caught.value.output
    return str(failures[0]["reason"])


def _changed(booster: xgboost.Booster, change: Callable[[Any], object]) -> bytes:
    model = json.loads(booster.save_raw("json"))
    change(model)
    return json.dumps(model).encode()


def _tree_of(model: Any) -> Any:
    return model["learner"]["gradient_booster"]["model"]["trees"][0]


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: _tree_of(m)["left_children"].__setitem__(1, 0), "child index is out of range"),
        (lambda m: m.update(version=[99, 0, 0]), "was written by XGBoost 99.0.0"),
        (lambda m: m["learner"]["attributes"].update(best_iteration="5"), "is 5 of 5 rounds"),
    ],
    ids=["cycle", "newer", "iteration"],
)
def test_model_that_xgboost_would_crash_on_or_misread(
    backend: Backend,
    tmp_path: Path,
    booster: xgboost.Booster,
    change: Callable[[Any], object],
    reason: str,
) -> None:
    """Files that XGBoost itself loads without an error (C-061)."""
    content = _changed(booster, change)

    assert reason in _refusal(backend, _tree(tmp_path, {"xgboost-model": content}))


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("damage", ["cut", "bits"])
def test_damaged_model_never_crashes_the_server(
    backend: Backend, tmp_path: Path, booster: xgboost.Booster, damage: str
) -> None:
    """Cut and flipped UBJSON; 14 % of such files kill XGBoost itself."""
    random = np.random.default_rng(2)
    content = bytearray(booster.save_raw("ubj"))
    if damage == "cut":
        del content[int(random.integers(20, len(content) - 20)) :]
    else:  # in the structure of a tree, where every bit is a node
        where = content.index(b"left_children") + 42
        content[where : where + 40] = random.integers(0, 256, 40, dtype=np.uint8).tobytes()

    reason = _refusal(backend, _tree(tmp_path, {"xgboost-model": bytes(content)}))

    assert reason.startswith("xgboost-model is damaged or not an XGBoost model: ")


class _Touch:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self._path,))


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("dump", [pickle.dump, partial(joblib.dump, compress=3)])
def test_pickle_is_not_run(backend: Backend, tmp_path: Path, dump: Callable[..., Any]) -> None:
    """Reads a pickle without running it; a canary in the mounted tree stays away (C-097)."""
    ml = MlTree(tmp_path / "hostile").create()
    canary = ml.output_data_dir / "canary"
    with (ml.model_dir / "xgboost-model").open("wb") as file:
        dump(_Touch(backend.path_inside(ml, canary)), file)

    reason = _refusal(backend, ml)

    assert "posix.mkdir" in reason
    assert not canary.exists()


@pytest.mark.canary
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"xgboost-model": b"binf" + bytes(200)}, "in XGBoost's binary format"),
        ({"xgboost-model": b'{"learner":' * 50_000}, "is damaged or not an XGBoost model"),
        ({"xgboost-model": b'{"learner": 1e999999, "version": [1]}'}, "damaged"),
        ({"m/xgboost-model": b"", "m/code/x.py": b""}, "there is one in m/ (m/code/, m/xgboost-mo"),
    ],
    ids=["legacy", "deep", "number", "below-the-root"],
)
def test_file_that_is_no_model(
    backend: Backend, tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    """Names the remedy where one is known (C-061)."""
    assert reason in _refusal(backend, _tree(tmp_path, files))


def test_file_that_is_not_the_one_of_the_manifest(
    backend: Backend, tmp_path: Path, trained: Trained
) -> None:
    """The model would load, but it is not the one that was trained."""
    files = {name: (trained.ml.model_dir / name).read_bytes() for name in trained.ml.model_files()}
    manifest = json.loads(files["byoa-manifest.json"])
    manifest["files"]["xgboost-model"]["sha256"] = "0" * 64
    files["byoa-manifest.json"] = json.dumps(manifest).encode()

    reason = _refusal(backend, _tree(tmp_path, files))

    assert "'xgboost-model' is not the file that byoa-manifest.json describes" in reason
