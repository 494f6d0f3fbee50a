"""Whether a model file can be predicted with safely, judged before XGBoost sees it.

XGBoost takes a tree whose child index or feature index lies outside, or whose nodes form a cycle,
and dies with SIGSEGV on the first record that goes that way. In a sound tree every node is the
child of at most one other, and the root of none: checked for all nodes at once, that excludes
cycles.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from container.algorithms import ubjson
from container.codecs.base import MAX_COLUMNS
from container.errors import ModelLoadError

Array = np.ndarray[Any, Any]

_NO_CHILD = -1
_NUMERICAL, _CATEGORICAL = 0, 1
# Objectives whose base score is not what is added to the trees or weights.
_WITH_A_LINK = (
    *("reg:logistic", "binary:logistic", "count:poisson"),
    *("reg:gamma", "reg:tweedie", "survival:cox"),
)
# Arrays with an element for each node.
_PER_NODE = (
    *("left_children", "right_children", "parents", "split_indices", "split_conditions"),
    *("default_left", "base_weights", "loss_changes", "sum_hessian"),
)


def check(content: bytes | memoryview, name: str, installed: tuple[int, ...]) -> None:
    """Refuse a model that XGBoost would misread or crash on.

    Args:
        content: The model in UBJSON or JSON.
        name: The file's name, for the message.
        installed: Version of the installed XGBoost.
    Raises:
        ModelLoadError: what is wrong, and with which tree.
    """
    try:
        model = parse(content)
        written = tuple(int(part) for part in model["version"])
        _check_version(written, installed)
        _check_base_score(model["learner"], written)
        _check_booster(model["learner"])
    except _UnusableModelError as error:
        raise ModelLoadError(f"{name}: {error}") from error
    except KeyError as error:
        problem = f"it has no member {error}"
        raise ModelLoadError(f"{name} is damaged or not an XGBoost model: {problem}") from error
    except (ValueError, TypeError, IndexError, RecursionError, OverflowError) as error:
        raise ModelLoadError(f"{name} is damaged or not an XGBoost model: {error}") from error


def is_foreign(content: bytes | memoryview) -> bool:
    """Whether this is a whole document, but not that of an XGBoost model.

    What is no document at all is not foreign: it may be a damaged model.
    """
    try:
        document = parse(content)
    except (ValueError, RecursionError):
        return False
    learner = document.get("learner") if isinstance(document, dict) else None
    return not (isinstance(learner, dict) and "gradient_booster" in learner)


class _UnusableModelError(ValueError):
    """The model is sound, but the installed XGBoost is not the one for it."""


def parse(content: bytes | memoryview) -> Any:
    """Read a document of either format.

    Raises:
        ValueError, RecursionError: it is none; or an object has two members of the same name, of
            which XGBoost may take the one that was not checked.
    """
    # Both begin with a brace; in UBJSON the type of the first key's length follows.
    if bytes(content[1:2]) in (b"L", b"l", b"I", b"i", b"U"):
        return ubjson.parse(content)
    # Takes NaN and Infinity, which XGBoost writes, and shows repeated names.
    return json.loads(bytes(content), object_pairs_hook=_object)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    distinct = dict(members)
    if len(distinct) < len(members):
        raise ValueError("an object has two members of the same name")
    return distinct


def _check_version(written: tuple[int, ...], installed: tuple[int, ...]) -> None:
    if written[:2] > installed[:2]:
        raise _UnusableModelError(
            f"the model was written by XGBoost {_dotted(written)}, and {_dotted(installed)} is "
            "installed, which may misread it in silence; serve it with an image that has "
            f"{_dotted(written)} or save it with {_dotted(installed)}"
        )


def _check_base_score(learner: Mapping[str, Any], written: tuple[int, ...]) -> None:
    """Found by comparing predictions: XGBoost says nothing, and adds another constant."""
    objective, booster = learner["objective"]["name"], learner["gradient_booster"]
    # Once a probability, since 1.3 a margin.
    is_other = objective == "binary:logitraw" and written[:2] < (1, 3)
    # Without this number, which 1.3 did not write yet, 3.2 takes the base score for a margin.
    if booster["name"] == "gblinear" and "boosted_rounds" not in booster["model"]:
        is_other = is_other or objective in _WITH_A_LINK
    if is_other:
        raise _UnusableModelError(
            f"its predictions would be off by a constant, since XGBoost {_dotted(written)} left "
            f"the base score of {objective} in a form that later ones misread; load it with that "
            "one and save it in the binary format, which is read here: "
            "Booster.save_model('xgboost-model')"
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _check_booster(learner: Mapping[str, Any]) -> None:
    parameters = learner["learner_model_param"]
    n_features = int(parameters["num_feature"])
    _require(0 <= n_features <= MAX_COLUMNS, "the number of features is out of range")
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        n_groups = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
        _require(
            len(booster["model"]["weights"]) == (n_features + 1) * n_groups,
            "the linear weights do not match the number of features",
        )
        return
    forest = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    trees, groups = forest["trees"], forest["tree_info"]
    n_trees = int(forest["gbtree_model_param"]["num_trees"])
    _require(len(trees) == len(groups) == n_trees, "the number of trees is not the one declared")
    if not n_trees and not len(forest.get("iteration_indptr", ())):
        raise _UnusableModelError(
            "the model has no trees: it was trained for no round; train it for one at least"
        )
    if booster["name"] == "dart":
        _require(len(booster["weight_drop"]) == n_trees, "the weights of the trees are not as many")
    n_groups = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    _require(_within(_integers(groups), 0, n_groups), "a tree belongs to no output")
    for index, tree in enumerate(trees):
        _check_tree(tree, n_features, f"tree {index}")


def _check_tree(tree: Mapping[str, Any], n_features: int, name: str) -> None:
    n_nodes = int(tree["tree_param"]["num_nodes"])
    _require(n_nodes > 0, f"{name} has no nodes")
    n_targets = int(tree["tree_param"].get("size_leaf_vector", 1))
    for key in _PER_NODE:
        n_elements = n_nodes * max(1, n_targets) if key == "base_weights" else n_nodes
        if key in tree:
            _require(len(tree[key]) == n_elements, f"{name}: {key} is not of length {n_elements}")
    left, right = _integers(tree["left_children"]), _integers(tree["right_children"])
    inner = left != _NO_CHILD
    if n_targets > 1 and "leaf_weights" not in tree:
        raise _UnusableModelError(
            "its trees have several outputs each, in a form that XGBoost up to 3.0 wrote and later "
            "ones do not read; train it again with the installed XGBoost"
        )
    if n_targets > 1:  # a leaf's right child then is the number of its vector of weights
        n_leaves = len(tree["leaf_weights"]) // n_targets
        _require(_within(right[~inner], 0, n_leaves), f"{name}: a leaf has no weights")
    else:
        _require(bool((right[~inner] == _NO_CHILD).all()), f"{name}: a leaf has a child")
    children = np.concatenate([left[inner], right[inner]])
    # From 1: nothing leads back to the root, which is node 0.
    _require(_within(children, 1, n_nodes), f"{name}: a child index is out of range")
    _require(bool((np.bincount(children) <= 1).all()), f"{name}: a node has two parents")
    features = _integers(tree["split_indices"])[inner]
    _require(_within(features, 0, n_features), f"{name}: a feature index is out of range")
    _check_categories(tree, n_nodes, name)


def _check_categories(tree: Mapping[str, Any], n_nodes: int, name: str) -> None:
    if "categories" not in tree:
        return
    nodes = _integers(tree["categories_nodes"])
    starts, sizes = _integers(tree["categories_segments"]), _integers(tree["categories_sizes"])
    n_categories = len(tree["categories"])
    _require(len(nodes) == len(starts) == len(sizes), f"{name}: the category segments do not match")
    _require(_within(nodes, 0, n_nodes), f"{name}: a category belongs to no node")
    in_range = _within(starts, 0, n_categories + 1) and _within(sizes, 0, n_categories + 1)
    _require(
        in_range and _within(starts + sizes, 0, n_categories + 1),
        f"{name}: a category segment is out of range",
    )
    _require(bool((_integers(tree["categories"]) >= 0).all()), f"{name}: a category is negative")
    kinds = _integers(tree["split_type"])
    _require(_within(kinds, _NUMERICAL, _CATEGORICAL + 1), f"{name}: a split type is not known")
    split_by_category = set(np.flatnonzero(kinds == _CATEGORICAL).tolist())
    _require(split_by_category <= set(nodes.tolist()), f"{name}: a split lacks its categories")


def _integers(values: Any) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "iub" and array.size:
        raise ValueError("integers are expected")
    return array.astype(np.int64)


def _within(values: Array, start: int, stop: int) -> bool:
    return not values.size or (int(values.min()) >= start and int(values.max()) < stop)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
