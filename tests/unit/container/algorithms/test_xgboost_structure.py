"""Models that XGBoost would misread or crash on, and those that it would not."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost

from container.algorithms import ubjson, xgboost_structure
from container.algorithms.xgboost_library import Booster, installed_version, prediction_config
from container.errors import ModelLoadError

RANDOM = np.random.default_rng(5)
FEATURES = RANDOM.random((200, 3)).astype(np.float32)
LABELS = FEATURES[:, 0] + FEATURES[:, 1] * FEATURES[:, 2]
VERSION = installed_version()


def _train(features: Any = FEATURES, labels: Any = LABELS, **parameters: Any) -> xgboost.Booster:
    data = features if isinstance(features, xgboost.DMatrix) else xgboost.DMatrix(features, labels)
    return xgboost.train({"nthread": 1, "max_depth": 3} | parameters, data, 3)


def _categorical() -> xgboost.Booster:
    features = np.column_stack([FEATURES, RANDOM.integers(0, 9, 200)]).astype(np.float32)
    kinds = ["q", "q", "q", "c"]
    data = xgboost.DMatrix(features, LABELS, feature_types=kinds, enable_categorical=True)
    return _train(data)


SOUND: dict[str, Callable[[], xgboost.Booster]] = {
    "trees": _train,
    "forest": lambda: _train(num_parallel_tree=3),
    "dart": lambda: _train(booster="dart", rate_drop=0.5),
    "linear": lambda: _train(booster="gblinear", max_depth=None),
    "classes": lambda: _train(
        labels=(LABELS * 2).astype(int).clip(0, 2), objective="multi:softprob", num_class=3
    ),
    "categories": _categorical,
    "several-targets": lambda: _train(
        labels=np.column_stack([LABELS, -LABELS]), multi_strategy="multi_output_tree"
    ),
    "no-trees": lambda: xgboost.train({}, xgboost.DMatrix(FEATURES, LABELS), 0),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("raw_format", ["ubj", "json"])
@pytest.mark.parametrize("kind", SOUND)
def test_sound_model_passes(kind: str, raw_format: str) -> None:
    """Every kind of booster that XGBoost writes, in both formats."""
    content = bytes(SOUND[kind]().save_raw(raw_format))

    xgboost_structure.check(content, "model", VERSION)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", SOUND)
def test_both_formats_say_the_same(kind: str) -> None:
    """The UBJSON reader gives what the JSON of the same model says."""
    booster = SOUND[kind]()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | np.ndarray):
            return [plain(item) for item in value]
        return (
            pytest.approx(float(value), rel=1e-6)
            if isinstance(value, float | np.floating)
            else (int(value) if isinstance(value, int | np.integer) else value)
        )

    assert plain(ubjson.parse(bytes(booster.save_raw("ubj")))) == json.loads(
        booster.save_raw("json")
    )


def _first_tree(model: Any) -> Any:
    return model["learner"]["gradient_booster"]["model"]["trees"][0]


def _set(path: str, index: int, value: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        _first_tree(model)[path][index] = value

    return change


def _set_features(number: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model["learner"]["learner_model_param"]["num_feature"] = number

    return change


def _drop_weights(model: Any) -> None:
    _first_tree(model)["split_conditions"].pop()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("left_children", 0, 10**6), "a child index is out of range"),
        (_set("left_children", 0, -2), "a child index is out of range"),
        (_set("left_children", 1, 0), "a child index is out of range"),  # a cycle over the root
        (_set("left_children", 1, 1), "a node has two parents"),  # its own child
        (_set("left_children", 2, 1), "a node has two parents"),
        (_set("right_children", 0, -1), "a child index is out of range"),
        (_set("split_indices", 0, 2**31 - 1), "a feature index is out of range"),
        (_set("split_indices", 0, 3), "a feature index is out of range"),
        (_set("split_indices", 0, -1), "a feature index is out of range"),
        (_set_features("-1"), "the number of features is out of range"),
        (_set_features("4000000000"), "the number of features is out of range"),
        (_drop_weights, "split_conditions is not of length"),
        (lambda model: model["learner"]["gradient_booster"]["model"]["trees"].pop(), "number of"),
        (lambda model: _first_tree(model)["tree_param"].update(num_nodes="0"), "has no nodes"),
        (lambda model: model["learner"]["gradient_booster"]["model"]["tree_info"].pop(), "number"),
        (lambda model: model.pop("learner"), "damaged"),
        (lambda model: model.update(learner=7), "damaged"),
        (lambda model: model.update(version="new"), "damaged"),
    ],
)
def test_model_that_would_crash_xgboost_is_refused(
    change: Callable[[Any], None], problem: str
) -> None:
    """PITFALLS C-1: child 10**6, a cycle, feature 2**31-1: XGBoost loads them and dies later."""
    model = json.loads(_train().save_raw("json"))
    change(model)

    with pytest.raises(ModelLoadError, match=problem):
        xgboost_structure.check(json.dumps(model).encode(), "model", VERSION)


@pytest.mark.parametrize("raw_format", ["ubj", "json"])
def test_model_of_a_newer_xgboost_is_refused(raw_format: str) -> None:
    """3.0 reads 3.2's base_score wrongly and in silence; a newer patch release is fine."""
    content = bytes(_train().save_raw(raw_format))
    major, minor, patch = VERSION

    xgboost_structure.check(content, "model", (major, minor, 0))
    with pytest.raises(ModelLoadError, match=rf"written by XGBoost {major}\.{minor}\.{patch}, and"):
        xgboost_structure.check(content, "model", (major, minor - 1, 9))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{L",
        b"[]",
        b"Z",
        b"{}x",
        b"[" * 100_000,
        b"{U\x01a" * 5000,
        b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[$Z#i\x7f",
        b"SL\xff\xff\xff\xff\xff\xff\xff\xff",
        b"S[",
        b"{i\xffx",
        b"[$",
    ],
)
def test_reader_refuses_what_is_no_document(content: bytes) -> None:
    """Lengths that lie, depths without end: `ValueError`, at once and without the memory."""
    if content in (b"[]", b"Z"):
        ubjson.parse(content)
        return
    with pytest.raises(ValueError, match=r"."):
        ubjson.parse(content)


def test_reader_takes_every_type() -> None:
    """By hand, from the specification."""
    content = (
        b"{U\x01aU\xffi\x01bi\xffU\x01cI\x01\x00U\x01dl\x00\x01\x00\x00U\x01eTU\x01fFU\x01gZ"
        b"U\x01hCxU\x01iSU\x02hiU\x01j[U\x01U\x02]U\x01k[#U\x01TU\x01ld?\x80\x00\x00}"
    )

    assert ubjson.parse(content) == {
        **{"a": 255, "b": -1, "c": 256, "d": 65536, "e": True, "f": False, "g": None},
        **{"h": "x", "i": "hi", "j": [1, 2], "k": [True], "l": 1.0},
    }


@pytest.mark.parametrize("raw_format", ["ubj", "json"])
@pytest.mark.parametrize("is_first", [True, False])
def test_member_given_twice_is_refused(raw_format: str, is_first: bool) -> None:
    """PITFALLS C-1: of two `split_indices` XGBoost's readers take one, and others the other."""
    content = bytes(_train().save_raw(raw_format))
    if raw_format == "json":
        names, outside = [b'"split_indices":', b'"split_type":'], b"[1000000],"
    else:
        names = [b"L" + struct.pack(">q", len(n)) + n for n in (b"split_indices", b"split_type")]
        outside = ubjson.dump(np.full(3, 10**6, dtype=np.int32))
    start = content.index(names[0 if is_first else 1])
    twice = content[:start] + names[0] + outside + content[start:]

    with pytest.raises(ModelLoadError, match="two members of the same name"):
        xgboost_structure.check(twice, "model", VERSION)


def test_mutated_models_are_refused_or_predict(tmp_path: Any) -> None:
    """PITFALLS C-1: of thousands of damaged files none that passes is left to crash a prediction.

    What passes here may still crash the loading; that is what `serve/trial.py` is for, and why the
    files that pass are loaded in a child.
    """
    from serve import trial

    sound = [bytes(SOUND[kind]().save_raw("ubj")) for kind in ("trees", "classes")]
    rows = np.vstack([np.full((1, 3), np.nan), RANDOM.normal(size=(50, 3)) * 1e6])
    n_passed = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        content = bytearray(sound[seed % 2])
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        try:
            xgboost_structure.check(bytes(content), "model", VERSION)
        except ModelLoadError:
            continue
        n_passed += 1

        def predict(content: bytes = bytes(content)) -> None:
            booster = Booster(content, n_threads=1)
            (tmp_path / "loaded").touch()
            n_features = booster.n_features()
            booster.predict(
                np.resize(rows.astype(np.float32), (50, n_features)), prediction_config(n_rounds=0)
            )

        (tmp_path / "loaded").unlink(missing_ok=True)
        problem = _problem_of(lambda: trial.in_child(predict, timeout_seconds=30))
        died_predicting = "crashed" in problem and (tmp_path / "loaded").exists()
        assert not died_predicting, f"seed {seed}: {problem}"

    assert n_passed > 10


def _problem_of(work: Callable[[], None]) -> str:
    try:
        work()
    except ModelLoadError as error:
        return error.message
    return ""


def test_categorical_model_in_json_with_bare_nan_passes() -> None:
    """XGBoost 1.7 to 2.1 write `NaN` as the threshold of a split by categories."""
    categories = RANDOM.integers(0, 9, (200, 1)).astype(np.float32)
    data = xgboost.DMatrix(categories, categories % 2, feature_types=["c"], enable_categorical=True)
    document = json.loads(_train(data).save_raw("json"))
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        for node in tree["categories_nodes"]:
            tree["split_conditions"][node] = float("nan")
    text = json.dumps(document)
    assert "NaN" in text

    xgboost_structure.check(text.encode(), "model", VERSION)


def test_trees_of_several_outputs_of_xgboost_3_0_are_refused_for_what_they_are() -> None:
    """The installed XGBoost dies of them; they are not damaged."""
    booster = SOUND["several-targets"]()
    document = json.loads(booster.save_raw("json"))
    document["version"] = [3, 0, 5]
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        del tree["leaf_weights"]

    with pytest.raises(ModelLoadError, match=r"XGBoost up to 3\.0 wrote.*train it again") as caught:
        xgboost_structure.check(json.dumps(document).encode(), "model", VERSION)

    assert "damaged" not in caught.value.message


def test_model_of_no_round_that_cannot_be_loaded_says_so() -> None:
    """XGBoost before 2.0 wrote none of what the installed one asks for here."""
    document = json.loads(SOUND["no-trees"]().save_raw("json"))
    del document["learner"]["gradient_booster"]["model"]["iteration_indptr"]

    with pytest.raises(ModelLoadError, match="the model has no trees"):
        xgboost_structure.check(json.dumps(document).encode(), "model", VERSION)
