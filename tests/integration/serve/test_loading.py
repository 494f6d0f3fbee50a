import json
from pathlib import Path

import pytest
import xgboost

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.runtime import validation_run
from tests.unit.serve.test_loading import model_dir  # noqa: F401


def test_validation_finds_what_loading_alone_would_not(model_dir: Path) -> None:
    """A model that crashes at its first record fails the validation run."""
    booster = xgboost.Booster(model_file=bytearray((model_dir / "xgboost-model").read_bytes()))
    model = json.loads(booster.save_raw("json"))
    model["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"][0] = 0
    (model_dir / "xgboost-model").write_text(json.dumps(model))
    artifact = loading.inspect(model_dir, Settings())

    artifact.load()
    with pytest.raises(ModelLoadError, match="tree 0: a child index is out of range"):
        validation_run.in_child(artifact.validate)
