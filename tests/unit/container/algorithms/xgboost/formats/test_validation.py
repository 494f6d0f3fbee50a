"""Models that XGBoost would misread or crash on, and those that it would not."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost

from container.algorithms.xgboost.formats import ubjson, validation
from container.algorithms.xgboost.serving.c_api import installed_version
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
    labels = LABELS + features[:, 3] % 3
    data = xgboost.DMatrix(features, labels, feature_types=kinds, enable_categorical=True)
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
    "targets": lambda: _train(labels=np.column_stack([LABELS, -LABELS])),
    "vectors": lambda: _train(
        labels=np.column_stack([LABELS, -LABELS]), multi_strategy="multi_output_tree"
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("raw_format", ["ubj", "json"])
@pytest.mark.parametrize("kind", SOUND)
def test_sound_model_passes(kind: str, raw_format: str) -> None:
    """Every kind of booster that XGBoost writes, in both formats."""
    content = bytes(SOUND[kind]().save_raw(raw_format))

    validation.check(content, "model", VERSION)


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
        (_set_features("-1"), "num_feature is '-1'; a number from 0 to"),
        (_set_features("2147483647"), "num_feature is '2147483647'; a number from 0 to"),
        (_set_features("4000000000"), "num_feature is '4000000000'; a number from 0 to"),
        (_set_features("1_0"), "num_feature is '1_0'; a number from 0 to"),  # XGBoost reads 1
        (_drop_weights, r"tree 0: split_conditions has \d+ elements, not \d+"),
        (lambda model: model.pop("learner"), "damaged"),
        (lambda model: model.update(learner=7), "damaged"),
        (lambda model: model.update(version="new"), "damaged"),
    ],
)
def test_model_that_would_crash_xgboost_is_refused(
    change: Callable[[Any], None], problem: str
) -> None:
    """Refuses child 10**6, a cycle, feature 2**31-1: XGBoost loads them and crashes later."""
    model = json.loads(_train().save_raw("json"))
    change(model)

    with pytest.raises(ModelLoadError, match=problem):
        validation.check(json.dumps(model).encode(), "model", VERSION)


@pytest.mark.parametrize("raw_format", ["ubj", "json"])
def test_model_of_a_newer_xgboost_is_refused(raw_format: str) -> None:
    """3.0 reads 3.2's base_score wrongly and in silence; a newer patch release is fine."""
    content = bytes(_train().save_raw(raw_format))
    major, minor, patch = VERSION

    validation.check(content, "model", (major, minor, 0))
    with pytest.raises(ModelLoadError, match=rf"written by XGBoost {major}\.{minor}\.{patch}, and"):
        validation.check(content, "model", (major, minor - 1, 9))


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
    """Refuses two `split_indices`: of two members, readers differ on which one counts."""
    content = bytes(_train().save_raw(raw_format))
    if raw_format == "json":
        names, outside = [b'"split_indices":', b'"split_type":'], b"[1000000],"
    else:
        names = [b"L" + struct.pack(">q", len(n)) + n for n in (b"split_indices", b"split_type")]
        outside = ubjson.dump(np.full(3, 10**6, dtype=np.int32))
    start = content.index(names[0 if is_first else 1])
    twice = content[:start] + names[0] + outside + content[start:]

    with pytest.raises(ModelLoadError, match="two members of the same name"):
        validation.check(twice, "model", VERSION)


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

    validation.check(text.encode(), "model", VERSION)


def test_trees_of_several_outputs_of_xgboost_3_0_are_refused_for_what_they_are() -> None:
    """The installed XGBoost dies of them; they are not damaged."""
    booster = SOUND["vectors"]()
    document = json.loads(booster.save_raw("json"))
    document["version"] = [3, 0, 5]
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        del tree["leaf_weights"]

    with pytest.raises(ModelLoadError, match=r"XGBoost up to 3\.0 wrote.*train it again") as caught:
        validation.check(json.dumps(document).encode(), "model", VERSION)

    assert "damaged" not in caught.value.message


@pytest.mark.parametrize("raw_format", ["ubj", "json"])
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_model_of_no_round_is_refused_with_what_to_do(booster: str, raw_format: str) -> None:
    """It would answer every record with the same constant."""
    untrained = xgboost.train({"booster": booster}, xgboost.DMatrix(FEATURES, LABELS), 0)

    with pytest.raises(ModelLoadError, match="trained for 0 rounds; train it for at least 1"):
        validation.check(bytes(untrained.save_raw(raw_format)), "model", VERSION)


def _parameter(name: str, value: str) -> Callable[[Any], None]:
    return lambda model: model["learner"]["learner_model_param"].update({name: value})


def _in_forest(change: Callable[[Any], object]) -> Callable[[Any], None]:
    def changed(model: Any) -> None:
        booster = model["learner"]["gradient_booster"]
        change(booster.get("gbtree", booster)["model"])

    return changed


def _in_tree(change: Callable[[Any], object]) -> Callable[[Any], None]:
    return _in_forest(lambda forest: change(forest["trees"][0]))


def _lengthen(tree: Any) -> None:
    """A chain of splits deeper than a stack, every array of the right length."""
    n_splits = 20_000
    n_nodes = 2 * n_splits + 1
    inner = np.arange(0, 2 * n_splits, 2)
    left = np.full(n_nodes, -1)
    right = np.full(n_nodes, -1)
    parents = np.full(n_nodes, 2**31 - 1)
    # A node's right child is the next one that splits.
    left[inner], right[inner] = inner + 1, inner + 2
    parents[inner + 1] = parents[inner + 2] = inner
    tree.update(left_children=left.tolist(), right_children=right.tolist())
    tree.update(parents=parents.tolist())
    for key in ("split_indices", "split_conditions", "default_left", "split_type"):
        tree[key] = [0] * n_nodes
    for key in ("loss_changes", "sum_hessian", "base_weights"):
        tree[key] = [1.5] * n_nodes
    tree["tree_param"]["num_nodes"] = str(n_nodes)


def _forget_category(tree: Any) -> None:
    for key in ("categories_nodes", "categories_segments", "categories_sizes"):
        tree[key].pop()


LIES: list[tuple[str, Callable[[Any], None], str]] = [
    ("trees", _parameter("num_target", "4194304"), "declares 4194304 outputs .* trees for 1"),
    ("trees", _parameter("num_class", "7"), "declares 7 outputs .* trees for 1"),
    ("trees", _parameter("base_score", "[5E-1,5E-1]"), "1 output and 2 base scores"),
    ("classes", _parameter("num_class", "4"), "declares 4 outputs .* trees for 3"),
    ("classes", _parameter("num_class", "2"), "a tree belongs to no output"),
    (
        "classes",
        lambda model: model["learner"]["objective"]["softmax_multiclass_param"].update(
            num_class="1000"
        ),
        "num_class of the objective is 1000 and the model has 3 outputs",
    ),
    ("classes", _parameter("num_target", "3"), "num_class is 3 and num_target 3"),
    ("classes", _parameter("base_score", "[5E-1,5E-1]"), "3 outputs and 2 base scores"),
    ("targets", _parameter("num_target", "1"), "a tree belongs to no output"),
    ("vectors", _parameter("num_target", "1"), r"have 2 values .* the model has 1 output "),
    ("vectors", _parameter("num_target", "3"), r"have 2 values .* the model has 3 outputs"),
    (
        "vectors",
        _in_tree(lambda tree: tree["tree_param"].update(size_leaf_vector="16")),
        r"have 2, 16 values",
    ),
    (
        "vectors",
        _in_tree(lambda tree: tree["leaf_weights"].pop()),
        r"has \d+ leaf weights for leaves of 2",
    ),
    (
        "vectors",
        _in_tree(lambda tree: tree["leaf_weights"].__delitem__(slice(2))),
        "a leaf has no weights",
    ),
    ("vectors", _in_tree(lambda tree: tree["base_weights"].pop()), "base_weights has"),
    ("vectors", _in_tree(lambda tree: tree["split_type"].pop()), "split_type has"),
    ("vectors", _in_tree(lambda tree: tree.pop("sum_hessian")), "no member 'sum_hessian'"),
    ("vectors", _in_forest(lambda forest: forest.update(tree_info=[0, 1, 0])), "tree_info names"),
    (
        "dart",
        lambda model: model["learner"]["gradient_booster"]["weight_drop"].pop(),
        "2 tree weights",
    ),
    (
        "linear",
        lambda model: model["learner"]["gradient_booster"]["model"]["weights"].pop(),
        "the model has 3 weights; .* are 4",
    ),
    ("linear", _parameter("num_feature", "1000"), "the model has 4 weights; .* are 1001"),
    ("trees", _in_forest(lambda forest: forest["trees"].pop()), "num_trees is 3, and trees has 2"),
    (
        "trees",
        _in_forest(lambda forest: forest["tree_info"].pop()),
        "num_trees is 3, and tree_info has 2",
    ),
    ("trees", _in_forest(lambda forest: forest["tree_info"].__setitem__(0, -1)), "no output"),
    ("trees", _in_forest(lambda forest: forest.update(iteration_indptr=[])), "iteration_indptr"),
    (
        "trees",
        _in_forest(lambda forest: forest.update(iteration_indptr=[0, 5, 3])),
        "iteration_indptr",
    ),
    (
        "trees",
        _in_forest(lambda forest: forest["gbtree_model_param"].update(num_parallel_tree="4")),
        "num_parallel_tree is '4'",
    ),
    ("trees", _in_tree(lambda tree: tree.update(id=1)), "tree 0 has the id 1"),
    ("trees", _in_tree(lambda tree: tree["parents"].__setitem__(1, 10**6)), "parent index is out"),
    ("trees", _in_tree(lambda tree: tree["parents"].__setitem__(1, -1)), "parent index is out"),
    ("trees", _in_tree(lambda tree: tree["parents"].__setitem__(1, 3)), "names another parent"),
    (
        "trees",
        _in_tree(lambda tree: tree["tree_param"].update(num_nodes="0")),
        "num_nodes is '0'; a number from 1",
    ),
    ("trees", _in_tree(_lengthen), "deeper than 10000 levels"),
    ("categories", _in_tree(lambda tree: tree["categories"].clear()), "segment is out of range"),
    (
        "categories",
        _in_tree(lambda tree: tree["categories_sizes"].__setitem__(0, 0)),
        "segment is out of range",
    ),
    (
        "categories",
        _in_tree(lambda tree: tree["categories_segments"].__setitem__(0, 10**6)),
        "segment is out of range",
    ),
    (
        "categories",
        _in_tree(lambda tree: tree["categories"].__setitem__(0, 2**31 - 1)),
        "a category is out of range",
    ),
    ("categories", _in_tree(_forget_category), "lack or repeat categories"),
    ("categories", _in_tree(lambda tree: tree["split_type"].__setitem__(0, 7)), "split type"),
]


@pytest.mark.parametrize(("kind", "lie", "problem"), LIES)
def test_declared_size_that_the_model_does_not_have_is_refused(
    kind: str, lie: Callable[[Any], None], problem: str
) -> None:
    """XGBoost allocates and indexes by them: it overflows its heap, or takes what memory there is.

    Some of these models predict for a single record, and crash for several.
    """
    document = json.loads(SOUND[kind]().save_raw("json"))
    validation.check(json.dumps(document).encode(), "model", VERSION)
    lie(document)

    with pytest.raises(ModelLoadError, match=problem):
        validation.check(json.dumps(document).encode(), "model", VERSION)


def test_right_child_that_is_not_beside_the_left_one_is_refused() -> None:
    """XGBoost finds it there whatever the file says, in blocks of records it does not."""
    document = json.loads(_train().save_raw("json"))
    tree = _first_tree(document)
    for key in ("left_children", "right_children"):
        tree[key][:3] = [{1: 2, 2: 1}.get(child, child) for child in tree[key][:3]]

    with pytest.raises(ModelLoadError, match="not the node after the left one"):
        validation.check(json.dumps(document).encode(), "model", VERSION)


def test_escaped_name_of_a_member_is_refused() -> None:
    """XGBoost leaves such an escape as it is: it would not see the size that was checked."""
    text = bytes(SOUND["vectors"]().save_raw("json"))
    text = text.replace(b'"num_target"', b'"num_\\u0074arget"')
    assert json.loads(text)["learner"]["learner_model_param"]["num_target"] == "2"

    with pytest.raises(ModelLoadError, match="the name of a member is escaped"):
        validation.check(text, "model", VERSION)


def test_escape_in_a_value_passes() -> None:
    """Names of features that another program than XGBoost wrote, and attributes with JSON."""
    document = json.loads(_train().save_raw("json"))
    document["learner"]["feature_names"] = ["Größe", "b", "c"]
    document["learner"]["attributes"]["note"] = json.dumps({"é": ["\u00e9"]})

    validation.check(json.dumps(document).encode(), "model", VERSION)


def test_records_reach_every_leaf() -> None:
    """By them a trial goes where only some records of a client would."""
    booster = _train()
    records = validation.check(bytes(booster.save_raw("ubj")), "model", VERSION)

    leaves = booster.predict(xgboost.DMatrix(records), pred_leaf=True)
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    for index, tree in enumerate(trees):
        n_leaves = tree["left_children"].count(-1)
        assert len(np.unique(leaves[:, index])) == n_leaves
    assert records.dtype == np.float32
