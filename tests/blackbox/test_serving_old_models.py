"""Models as AWS's container of other days and other people's scripts leave them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from local_test.backends import Backend
from local_test.invoke import invoke
from local_test.ml_tree import MlTree
from local_test.outcomes import ServerStartError

MODELS = Path(__file__).parents[1] / "unit/container/algorithms/models_of_old"
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


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("0.90", "binary-pickled"),
        ("1.2.1", "early-pickled"),
        ("1.3.3", "early"),
        ("1.5.2", "early-forest"),
        ("1.7.6", "classes"),
    ],
)
def test_model_of_awss_container_is_served(
    backend: Backend, tmp_path: Path, version: str, kind: str
) -> None:
    """C-097: among an encoder, metadata and a checkpoint; predictions are that version's."""
    ml, records, expected = _model_tree(tmp_path, version, kind)
    (ml.model_dir / "encoder.pkl").write_bytes(b"\x80\x04]\x94.")
    (ml.model_dir / "metadata.json").write_text('{"version": "1.0.0"}')
    (ml.model_dir / "xgboost-checkpoint.3").write_bytes(b"binf")

    with backend.start_server(ml) as server:
        answer = invoke(server.url, records.encode(), accept="application/json")

    assert answer.status == 200
    scores = [row["score"] for row in json.loads(answer.body)["predictions"]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)


def test_selected_outputs_are_not_offered_as_an_array(backend: Backend, tmp_path: Path) -> None:
    """C-099: a 406 that says what there is, and a server that lives."""
    ml, records, _ = _model_tree(tmp_path, "1.7.6", "binary")

    with backend.start_server(ml, environment=SELECTED) as server:
        refused = invoke(server.url, records.encode(), accept="application/x-npy")
        answer = invoke(server.url, records.encode(), accept="application/json")

    assert refused.status == 406
    assert "application/json" in refused.text
    assert set(json.loads(answer.body)["predictions"][0]) == {"predicted_label", "probability"}


def test_array_as_the_default_of_selected_outputs_is_refused_at_start(
    backend: Backend, tmp_path: Path
) -> None:
    """C-099: no invocation could be answered."""
    ml, _, _ = _model_tree(tmp_path, "1.7.6", "binary")

    with pytest.raises(ServerStartError) as caught:
        backend.start_server(ml, environment=SELECTED | NPY)

    assert "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='application/x-npy'" in caught.value.output
