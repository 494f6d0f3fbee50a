"""Models in the binary format, against what the XGBoost that wrote them predicted itself."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from container.algorithms.serving_contract import ServingOptions
from container.algorithms.xgboost.algorithm import ALGORITHM
from container.algorithms.xgboost.formats import legacy_binary, ubjson
from container.errors import ModelLoadError

ARCHIVES = sorted((Path(__file__).parent / "models_of_old").glob("*.zip"))
RANDOM = np.random.default_rng(11)


def _member(version: str, kind: str) -> bytes:
    with zipfile.ZipFile(ARCHIVES[0].with_name(f"{version}.zip")) as archive:
        return archive.read(kind)


def _models() -> list[tuple[str, str]]:
    return [
        (archive.stem, kind)
        for archive in ARCHIVES
        for kind in zipfile.ZipFile(archive).namelist()
        if kind != "expected.json"
    ]


def _features(expected: dict[str, Any], kind: str) -> np.ndarray:
    features = np.array(expected["features"], dtype=np.float32)
    return np.nan_to_num(features) if kind == "linear" else features


@pytest.mark.filterwarnings("ignore:.*saved before XGBoost 1.6")
@pytest.mark.parametrize(("version", "kind"), _models())
def test_model_of_old_predicts_as_the_xgboost_that_wrote_it(
    tmp_path: Path, version: str, kind: str
) -> None:
    """C-097: every objective and booster that AWS's containers up to 1.7-1 saved, and pickles."""
    (tmp_path / "xgboost-model").write_bytes(_member(version, kind))
    expected = json.loads(_member(version, "expected.json"))

    assert ALGORITHM.recognises(tmp_path)
    ALGORITHM.verify(tmp_path, None)
    model = ALGORITHM.load(tmp_path, None, ServingOptions())
    predicted = model.predict(_features(expected, kind))

    np.testing.assert_allclose(predicted, expected[kind], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("version", ["0.90", "1.0.2", "1.3.3"])
def test_binary_model_is_known_by_its_content(tmp_path: Path, version: str) -> None:
    """C-060: with and without its magic bytes, under any name, beside foreign files."""
    (tmp_path / "mine").write_bytes(_member(version, "regression"))
    (tmp_path / "notes.bin").write_bytes(bytes(range(256)) * 4)

    assert ALGORITHM.recognises(tmp_path)
    assert ALGORITHM.load(tmp_path, None, ServingOptions()).n_features == 3


def test_stopped_early_is_the_case_in_the_models_of_old() -> None:
    """Or the test above would not show that the best iteration is found."""
    document: Any = ubjson.parse(legacy_binary.convert(_member("1.3.3", "early"), "model"))
    learner = document["learner"]

    n_trees = len(learner["gradient_booster"]["model"]["trees"])
    assert int(learner["attributes"]["best_iteration"]) + 1 < n_trees
    assert "objective" not in learner["attributes"]


@pytest.mark.parametrize(("version", "kind"), [("0.90", "poisson"), ("1.7.6", "dart")])
def test_every_cut_of_a_binary_model_is_refused(version: str, kind: str) -> None:
    """C-061: nothing is read that is not there, and nothing is left over."""
    content = _member(version, kind)

    for size in range(len(content)):
        with pytest.raises(ModelLoadError, match="damaged"):
            legacy_binary.convert(content[:size], "model")
    with pytest.raises(ModelLoadError, match=r"the model is followed by 1 byte$"):
        legacy_binary.convert(content + b"\0", "model")


@pytest.mark.parametrize("kind", ["early", "classes", "linear", "dart"])
def test_damaged_binary_model_is_a_load_error_or_a_document(kind: str) -> None:
    """Raises no other error for any damage."""
    content = _member("1.7.6", kind)
    n_refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for position in RANDOM.integers(0, len(content), 3):
            damaged[position] = RANDOM.integers(256)
        try:
            document: Any = ubjson.parse(legacy_binary.convert(damaged, "model"))
        except ModelLoadError:
            n_refused += 1
        else:
            assert set(document) == {"learner", "version"}
    assert n_refused


def _with(offset: int, layout: str, value: Any) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(layout, content, offset, value)


# Offsets behind `binf`: the learner's 136 bytes, two names with their lengths, the forest's 160.
_NAMES = 4 + 136
_FOREST = _NAMES + 8 + len("reg:squarederror") + 8 + len("gbtree")
_TREE = _FOREST + 160


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_with(4, "<f", float("nan")), "the base score is nan"),
        (_with(_NAMES, "<Q", 2**63), "bytes expected"),
        (_with(_FOREST - 1, "<B", ord("x")), "the booster 'gbtrex' is not known"),
        (_with(_FOREST, "<i", 2**31 - 1), "roots|bytes expected"),
        (_with(_FOREST, "<i", -1), "-1|-4"),
        (_with(_TREE, "<i", 2), "tree 0 has 2 roots"),
        (_with(_TREE + 4, "<i", 2**31 - 1), "bytes expected"),
        (_with(_TREE + 4, "<i", -5), "-100 bytes expected"),
    ],
)
def test_binary_model_with_a_false_count_is_refused(
    damage: Callable[[bytearray], None], message: str
) -> None:
    """C-061: no count is believed, and no memory taken for it, before the bytes are there."""
    content = bytearray(_member("1.7.6", "regression"))
    damage(content)

    with pytest.raises(ModelLoadError, match=message):
        legacy_binary.convert(content, "model")


def test_trees_out_of_a_binary_model_are_judged_as_all_are(tmp_path: Path) -> None:
    """Validates converted trees: a cycle would crash the server."""
    content = bytearray(_member("1.7.6", "regression"))
    struct.pack_into("<i", content, _TREE + 148 + 4, 0)  # the root's left child
    (tmp_path / "xgboost-model").write_bytes(content)

    with pytest.raises(ModelLoadError, match="a child index is out of range"):
        ALGORITHM.verify(tmp_path, None)


@pytest.mark.parametrize("kind", ["logitraw", "linear"])
def test_json_of_old_whose_base_score_is_misread_is_refused(tmp_path: Path, kind: str) -> None:
    """XGBoost 3.2 predicts something else of it; the binary form of the same model is read."""
    document: Any = ubjson.parse(legacy_binary.convert(_member("1.2.1", kind), "model"))
    document["version"] = [1, 2, 1]
    document["learner"]["gradient_booster"]["model"].pop("boosted_rounds", None)
    text = json.dumps(document, default=np.ndarray.tolist)
    (tmp_path / "xgboost-model").write_text(text)

    with pytest.raises(ModelLoadError, match=r"off by a constant.*in the binary format"):
        ALGORITHM.verify(tmp_path, None)
