from pathlib import Path

import numpy as np
import pytest
import xgboost

from container import manifest
from container.errors import ModelLoadError, SettingsError
from container.manifest import Framework, ModelFacts
from serve import loading


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 2)
    (tmp_path / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    return tmp_path


def test_inspect_recognises_a_model_without_a_manifest(model_dir: Path) -> None:
    """Models of AWS's own container carry none."""
    artifact = loading.inspect(model_dir, None)

    assert artifact.algorithm.name == "xgboost"
    assert artifact.default_accept == "text/csv"
    assert artifact.load().model.n_features == 2


def test_inspect_default_accept_is_folded_and_checked(model_dir: Path) -> None:
    """C-056: the setting decides, if the algorithm can write it."""
    assert loading.inspect(model_dir, "JSON").default_accept == "application/json"
    with pytest.raises(SettingsError, match="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='image/png'"):
        loading.inspect(model_dir, "image/png")


def test_inspect_directory_without_a_model_lists_what_is_there(tmp_path: Path) -> None:
    """C-061: the reason is in the first message."""
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ModelLoadError, match=r"files found: notes\.txt"):
        loading.inspect(tmp_path, None)


def test_inspect_missing_directory_says_so(tmp_path: Path) -> None:
    """The message says what to do about it."""
    with pytest.raises(ModelLoadError, match="mount a trained model there"):
        loading.inspect(tmp_path / "model", None)


def test_inspect_model_of_an_algorithm_that_is_not_installed(tmp_path: Path) -> None:
    """The manifest names an algorithm that this image does not have."""
    facts = ModelFacts(framework=Framework(name="x", version="1"), n_features=1)
    manifest.write(tmp_path, "bilstm", facts)

    with pytest.raises(ModelLoadError, match="'bilstm', which is not installed"):
        loading.inspect(tmp_path, None)
