from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost

from container import manifest
from container.errors import ModelLoadError, SettingsError
from container.manifest import Framework, ModelFacts
from container.settings import Settings
from serve import loading


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 2)
    (tmp_path / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    return tmp_path


def test_inspect_recognises_a_model_without_a_manifest(model_dir: Path) -> None:
    """Loads a model without a manifest, as of AWS's container."""
    artifact = loading.inspect(model_dir, Settings())

    assert artifact.algorithm.name == "xgboost"
    assert artifact.default_accept == "text/csv"
    assert artifact.load().model.n_features == 2


def test_inspect_default_accept_is_folded_and_checked(model_dir: Path) -> None:
    """The setting is the default format, if the algorithm can write it (C-056)."""
    assert (
        loading.inspect(model_dir, Settings(default_accept="JSON")).default_accept
        == "application/json"
    )
    with pytest.raises(SettingsError, match="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='image/png'"):
        loading.inspect(model_dir, Settings(default_accept="image/png"))


def test_inspect_directory_without_a_model_lists_what_is_there(tmp_path: Path) -> None:
    """The error has the reason (C-061)."""
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ModelLoadError, match=r"files found: notes\.txt"):
        loading.inspect(tmp_path, Settings())


def test_inspect_missing_directory_says_so(tmp_path: Path) -> None:
    """The error says what to do."""
    with pytest.raises(ModelLoadError, match="mount a trained model there"):
        loading.inspect(tmp_path / "model", Settings())


def test_inspect_model_of_an_algorithm_that_is_not_installed(tmp_path: Path) -> None:
    """A manifest with an unknown algorithm is an error that names it."""
    facts = ModelFacts(framework=Framework(name="x", version="1"), n_features=1)
    manifest.write(tmp_path, "bilstm", facts)

    with pytest.raises(ModelLoadError, match="'bilstm', which is not installed"):
        loading.inspect(tmp_path, Settings())


def test_inspect_refuses_outputs_that_the_algorithm_does_not_have(model_dir: Path) -> None:
    """A misspelt output key is an error at start, not an answer of NaN (C-099)."""
    assert loading.inspect(model_dir, Settings(output_keys=("predicted_score",)))
    with pytest.raises(SettingsError, match=r"SAGEMAKER_INFERENCE_OUTPUT='score'.*predicted_score"):
        loading.inspect(model_dir, Settings(output_keys=("score",)))


def test_inspect_refuses_a_default_that_selected_outputs_cannot_be_written_as(
    model_dir: Path,
) -> None:
    """A default format that cannot hold the outputs is an error at start (C-099)."""
    settings = Settings(default_accept="application/x-npy", output_keys=("predicted_score",))

    assert loading.inspect(model_dir, replace(settings, output_keys=()))
    with pytest.raises(SettingsError, match=r"ACCEPT='application/x-npy'.*text/csv, .*OUTPUT"):
        loading.inspect(model_dir, settings)


def test_program_binds_only_those_of_many_models_that_bring_code(tmp_path: Path) -> None:
    """A model without code is loaded by its algorithm, whatever SAGEMAKER_PROGRAM is (C-089)."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "xgboost-model").write_bytes(b"{")
    one = Settings(program="predict.py")
    many = Settings(program="predict.py", is_multi_model=True)

    with pytest.raises(ModelLoadError, match=r"SAGEMAKER_PROGRAM='predict.py'"):
        loading.inspect(directory, one)
    assert isinstance(loading.inspect(directory, many), loading.Artifact)
    (directory / "code").mkdir()
    with pytest.raises(ModelLoadError, match=r"SAGEMAKER_PROGRAM='predict.py'"):
        loading.inspect(directory, many)
