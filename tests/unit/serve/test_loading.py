import json
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
from serve.runtime import validation_run


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    booster = xgboost.train({}, xgboost.DMatrix(rows, rows[:, 0]), 2)
    (tmp_path / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    return tmp_path


def test_inspect_recognises_a_model_without_a_manifest(model_dir: Path) -> None:
    """Models of AWS's own container carry none."""
    artifact = loading.inspect(model_dir, Settings())

    assert artifact.algorithm.name == "xgboost"
    assert artifact.default_accept == "text/csv"
    assert artifact.load().model.n_features == 2


def test_inspect_default_accept_is_folded_and_checked(model_dir: Path) -> None:
    """C-056: the setting decides, if the algorithm can write it."""
    assert (
        loading.inspect(model_dir, Settings(default_accept="JSON")).default_accept
        == "application/json"
    )
    with pytest.raises(SettingsError, match="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='image/png'"):
        loading.inspect(model_dir, Settings(default_accept="image/png"))


def test_inspect_directory_without_a_model_lists_what_is_there(tmp_path: Path) -> None:
    """C-061: the reason is in the first message."""
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ModelLoadError, match=r"files found: notes\.txt"):
        loading.inspect(tmp_path, Settings())


def test_inspect_missing_directory_says_so(tmp_path: Path) -> None:
    """The message says what to do about it."""
    with pytest.raises(ModelLoadError, match="mount a trained model there"):
        loading.inspect(tmp_path / "model", Settings())


def test_inspect_model_of_an_algorithm_that_is_not_installed(tmp_path: Path) -> None:
    """The manifest names an algorithm that this image does not have."""
    facts = ModelFacts(framework=Framework(name="x", version="1"), n_features=1)
    manifest.write(tmp_path, "bilstm", facts)

    with pytest.raises(ModelLoadError, match="'bilstm', which is not installed"):
        loading.inspect(tmp_path, Settings())


def test_inspect_refuses_outputs_that_the_algorithm_does_not_have(model_dir: Path) -> None:
    """C-099: a misspelt key is an error at start, not an answer of NaN."""
    assert loading.inspect(model_dir, Settings(output_keys=("predicted_score",)))
    with pytest.raises(SettingsError, match=r"SAGEMAKER_INFERENCE_OUTPUT='score'.*predicted_score"):
        loading.inspect(model_dir, Settings(output_keys=("score",)))


def test_inspect_refuses_a_default_that_selected_outputs_cannot_be_written_as(
    model_dir: Path,
) -> None:
    """C-099: a default that no invocation could be answered in is an error at start."""
    settings = Settings(default_accept="application/x-npy", output_keys=("predicted_score",))

    assert loading.inspect(model_dir, replace(settings, output_keys=()))
    with pytest.raises(SettingsError, match=r"ACCEPT='application/x-npy'.*text/csv, .*OUTPUT"):
        loading.inspect(model_dir, settings)


def test_try_out_finds_what_loading_alone_would_not(model_dir: Path) -> None:
    """PITFALLS C-1: XGBoost loads a cycle without a word, and dies of the first record."""
    booster = xgboost.Booster(model_file=bytearray((model_dir / "xgboost-model").read_bytes()))
    model = json.loads(booster.save_raw("json"))
    model["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"][0] = 0
    (model_dir / "xgboost-model").write_text(json.dumps(model))
    artifact = loading.inspect(model_dir, Settings())

    artifact.load()
    with pytest.raises(ModelLoadError, match="tree 0: a child index is out of range"):
        validation_run.in_child(artifact.try_out)


def test_program_binds_only_those_of_many_models_that_bring_code(tmp_path: Path) -> None:
    """C-089: a model without code is its algorithm's, whatever SAGEMAKER_PROGRAM names."""
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
