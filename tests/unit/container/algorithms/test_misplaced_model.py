"""Diagnosis of a model directory whose model is outside its root."""

from pathlib import Path

import pytest

from container.algorithms import registry
from container.errors import ModelLoadError

MODEL = '{"learner": {"gradient_booster": {}}, "version": [3, 2, 0]}'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["model/xgboost-model"], "there is one in model/ (model/xgboost-model)"),
        (["model/xgboost-model"], "tar -czf model.tar.gz -C model ."),
        (["a/b/c/model.json", "README"], "there is one in a/b/c/ (a/b/c/model.json)"),
        (["1/byoa-manifest.json", "1/model"], "in 1/ (1/byoa-manifest.json, 1/model)"),
        (["out/xgboost-model", "out/code/inference.py"], "(out/code/, out/xgboost-model)"),
        (["a/m/xgboost-model", "b/xgboost-model"], "in b/"),
        (["model.tar.gz"], "holds the archive model.tar.gz, which is not unpacked"),
        (["code/train.py", "model.zip"], "holds the archive model.zip"),
        (["code/train.py"], "holds nothing but code/: put the model beside it"),
        (["._xgboost-model", ".DS_Store"], "nothing but hidden files: .DS_Store, ._xgboost-model"),
        (["__MACOSX/xgboost-model", "a.txt"], "files found: a.txt"),
        ([".ipynb_checkpoints/xgboost-model", "a.txt", "b/c.txt"], "files found: a.txt, b/"),
        ([], "files found: none"),
        ([f"{'deep/' * 9}xgboost-model"], "files found: deep/"),
        ([f"d{i}/x" for i in range(20)], "d0/, d1/, d10/"),
    ],
)
def test_message_says_where_the_model_is(tmp_path: Path, files: list[str], said: str) -> None:
    """C-061: with paths relative to the artifact, and what to do."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        is_model = name.endswith(("xgboost-model", "model.json"))
        (tmp_path / name).write_text(MODEL if is_model else "text")

    with pytest.raises(ModelLoadError, match="holds no model in its root") as caught:
        registry.for_artifact(tmp_path, None)

    assert said in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_search_for_a_misplaced_model_ends(tmp_path: Path) -> None:
    """C-061: links are not followed, and of many directories some are looked into."""
    (tmp_path / "circle").symlink_to(tmp_path)
    for index in range(300):
        (tmp_path / f"{index:03}").mkdir()
    (tmp_path / "299" / "xgboost-model").write_text(MODEL)

    with pytest.raises(ModelLoadError, match="files found: 000/, 001/"):
        registry.for_artifact(tmp_path, None)
