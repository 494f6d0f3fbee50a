"""Models as AWS's container of other days and other people's scripts leave them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError

MODELS = Path(__file__).parents[1] / "unit/container/algorithms/xgboost/formats/models_of_old"
SELECTED = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label,probability"}
NPY = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy"}


def _model_tree(tmp_path: Path, version: str, kind: str) -> tuple[MlTree, str, list[float]]:
    """With a model of that version, records in CSV, and what that version predicted for them."""
    ml = MlTree(tmp_path / "old").create()
    with zipfile.ZipFile(MODELS / f"{version}.zip") as archive:
        (ml.model_dir / "xgboost-model").write_bytes(archive.read(kind))
        expected = json.loads(archive.read("expected.json"))
    rows = [
        ",".join("" if cell is None else repr(cell) for cell in row) for row in expected["features"]
    ]
    return ml, "\n".join(rows), expected[kind]


@pytest.mark.canary
@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("0.90", "binary-pickled"),
        ("1.3.3", "early"),
        ("1.7.6", "classes"),
    ],
)
def test_model_of_awss_container_is_served(
    backend: Backend, tmp_path: Path, version: str, kind: str
) -> None:
    """Finds it among an encoder, metadata and a checkpoint; predicts as that version (C-097)."""
    ml, records, expected = _model_tree(tmp_path, version, kind)
    (ml.model_dir / "encoder.pkl").write_bytes(b"\x80\x04]\x94.")
    (ml.model_dir / "metadata.json").write_text('{"version": "1.0.0"}')
    (ml.model_dir / "xgboost-checkpoint.3").write_bytes(b"binf")

    with backend.start_server(ml) as server:
        answer = invoke(server.url, records.encode(), accept="application/json")

    assert answer.status == 200
    scores = [row["score"] for row in json.loads(answer.body)["predictions"]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("setting", ["", "1"])
def test_model_of_awss_container_takes_libsvm_that_counts_from_1(
    backend: Backend, tmp_path: Path, setting: str
) -> None:
    """Eight features as eight columns of libsvm or of CSV; the log says the base (C-101, C-102)."""
    random = np.random.default_rng(5)
    features = random.random((200, 8), dtype=np.float32)
    matrix = xgboost.DMatrix(features, features @ np.arange(8))
    booster = xgboost.train({"nthread": 1, "max_depth": 3}, matrix, 20)
    ml = MlTree(tmp_path / "abalone").create()
    (ml.model_dir / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    bodies = {
        "10 1:2 2:0.645 3:0.51 4:0.155 5:1.539 6:0.6405 7:0.358 8:0.385": "text/libsvm",
        "2,0.645,0.51,0.155,1.539,0.6405,0.358,0.385": "text/csv",
        "10 1:2 2:0.645 3:0.51 4:0.155 5:1.539 6:0.6405 7:0.358": "text/libsvm",
        "10 1:2 2:0.645 3:0.51 4:0.155 5:1.539 6:0.6405 7:0.358 8:": "text/libsvm",
        "2,0.645,0.51,0.155,1.539,0.6405,0.358,": "text/csv",
    }

    with backend.start_server(ml, environment={"BYOA_LIBSVM_BASE": setting}) as server:
        answers = [
            invoke(server.url, body.encode(), content_type=kind) for body, kind in bodies.items()
        ]
        one_too_many = invoke(server.url, b"1 1:2 9:1", content_type="text/libsvm")
        log = server.output()

    assert [answer.status for answer in answers] == [200] * 5
    whole, whole_csv, lacks_8, empty_8, lacks_8_csv = (float(answer.body) for answer in answers)
    assert whole == whole_csv != lacks_8
    assert lacks_8 == empty_8 == lacks_8_csv
    assert one_too_many.status == 400
    assert "line 1, column 3" in one_too_many.text
    assert "the model takes 8 features" in one_too_many.text
    loaded = [json.loads(line) for line in log.splitlines() if '"model_loaded"' in line]
    assert [line["libsvm_base"] for line in loaded] == [int(setting) if setting else "per request"]


@pytest.mark.docker_cases(0)
def test_selected_outputs_are_not_offered_as_an_array(backend: Backend, tmp_path: Path) -> None:
    """A 406 that says what there is, and a server that lives (C-099)."""
    ml, records, _ = _model_tree(tmp_path, "1.7.6", "binary")

    with backend.start_server(ml, environment=SELECTED) as server:
        refused = invoke(server.url, records.encode(), accept="application/x-npy")
        answer = invoke(server.url, records.encode(), accept="application/json")

    assert refused.status == 406
    assert "application/json" in refused.text
    assert set(json.loads(answer.body)["predictions"][0]) == {"predicted_label", "probability"}


@pytest.mark.docker_cases(0)
def test_array_as_the_default_of_selected_outputs_is_refused_at_start(
    backend: Backend, tmp_path: Path
) -> None:
    """Fails at start, since no invocation could be answered (C-099)."""
    ml, _, _ = _model_tree(tmp_path, "1.7.6", "binary")

    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, environment=SELECTED | NPY)

    assert "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='application/x-npy'" in caught.value.output
