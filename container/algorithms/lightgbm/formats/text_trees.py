"""Validation of a LightGBM model before the library reads it, and records that reach its leaves.

LightGBM compares the lengths of arrays with `num_leaves` and little else. It follows children,
features and categories unchecked, so that a changed file crashes it or never ends, and it writes
`num_tree_per_iteration` values where the objective says how many there is room for. What it
refuses of a tree aborts the process: the error is raised among OpenMP's threads (seen with 4.7.0).

Source: LightGBM 4.6, `tree.cpp`, `tree.h`, `gbdt_model_text.cpp`, `multiclass_objective.hpp`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from container.algorithms.lightgbm.formats.model_text import Lines, ModelText
from container.algorithms.lightgbm.parameter_aliases import OBJECTIVES
from container.errors import counted

Array = np.ndarray[Any, Any]

_CATEGORICAL, _MISSING_TYPES = 1, 12  # bits of a decision type; both of the latter mean nothing
_MAX_LEAVES = 2**24
_MAX_FEATURES = 2**26
_INTEGERS = re.compile(rb"[-0-9 ]*")
_REALS = re.compile(rb"[-+0-9.einfa ]*")
_NUMBER = re.compile(rb"\d{1,9}")
_OF_CLASSES = ("multiclass", "multiclassova")
_CUSTOM = ("none", "null", "custom", "na")
# LightGBM passes over empty parts, so that `:num_class:9` would be a number of classes to it.
_OPTION = re.compile(r"[a-z_0-9]+(:[-+0-9.e]+)?")
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float64).smallest_normal)
_MAX_RECORDS = 512
_MAX_CELLS = 2**20


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about the model, from its header."""

    n_features: int
    n_outputs: int
    objective: str | None  # its name; None for an objective of the user's own
    feature_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tree:
    """Arrays of one tree, `[n_inner]`; a child below 0 is the leaf `-1 - child`."""

    left: Array
    right: Array
    feature: Array
    threshold: Array
    is_categorical: Array
    categories: Array  # `[n_inner]`, the lowest category that goes left; -1 where there is none


def facts(header: Lines) -> Facts:
    """Check a header against itself.

    Raises:
        ValueError: LightGBM would misread it, or write beyond its buffers.
    """
    n_classes = _whole(header, "num_class", least=1)
    n_outputs = _whole(header, "num_tree_per_iteration", least=1, default=n_classes)
    _require(
        n_classes == n_outputs,
        f"num_class is {n_classes} and num_tree_per_iteration {n_outputs}; they have to be equal",
    )
    _whole(header, "label_index", least=0)
    n_features = _whole(header, "max_feature_idx", least=0, most=_MAX_FEATURES) + 1
    for key in ("feature_names", "feature_infos", "monotone_constraints"):
        if key == "monotone_constraints" and key not in header:
            continue
        n_items = len([item for item in _member(header, key).split(b" ") if item])
        _require(
            n_items == n_features,
            f"{key} has {counted(n_items, 'element')} for {counted(n_features, 'feature')}",
        )
    _require(
        _INTEGERS.fullmatch(header.get("monotone_constraints", b"")) is not None,
        "monotone_constraints are not whole numbers",
    )
    names = header["feature_names"].decode(errors="backslashreplace").split(" ")
    return Facts(
        n_features=n_features,
        n_outputs=n_outputs,
        objective=_objective(header.get("objective"), n_outputs),
        feature_names=tuple(name for name in names if name),
    )


def check(text: ModelText) -> Array:
    """Check the header and every tree.

    Returns:
        Records that reach leaves all over the trees, float32 `[n, n_features]`.
    Raises:
        ValueError: with the tree at fault.
    """
    found = facts(text.header)
    _require(
        bool(text.trees),
        "the model has no trees: it was trained for 0 rounds; train it for at least 1",
    )
    _require(
        len(text.trees) % found.n_outputs == 0,
        f"it has {counted(len(text.trees), 'tree')} for {counted(found.n_outputs, 'class')} a "
        "round; each class needs as many as the others",
    )
    n_records = min(_MAX_RECORDS, _MAX_CELLS // found.n_features)
    a_tree = -(-n_records // len(text.trees))
    records: list[Array] = []
    for index, lines in enumerate(text.trees):
        try:
            tree = _tree(lines, found.n_features)
            if tree is not None:
                parents = _check_children(tree)
                if len(records) * a_tree < n_records:
                    records.append(_records(tree, parents, found.n_features, a_tree))
        except ValueError as error:
            raise ValueError(f"tree {index}: {error}") from error
    return np.concatenate([np.zeros((0, found.n_features), np.float32), *records])


def _tree(lines: Lines, n_features: int) -> _Tree | None:
    """Read one tree; None for a tree of one leaf."""
    n_leaves = _whole(lines, "num_leaves", least=1, most=_MAX_LEAVES)
    n_categorical = _whole(lines, "num_cat", least=0, most=_MAX_LEAVES)
    n_inner = n_leaves - 1
    _reals(lines, "leaf_value", n_leaves)
    if "shrinkage" in lines:
        _reals(lines, "shrinkage", 1)
    if "leaf_count" in lines:
        _integers(lines, "leaf_count", n_leaves)
    is_linear = _whole(lines, "is_linear", least=0, most=1, default=0)
    if is_linear:
        _check_linear(lines, n_leaves, n_features)
    elif not n_inner:
        return None  # LightGBM reads no further here
    for name in ("split_gain", "internal_value", "internal_weight"):
        if name in lines:
            _reals(lines, name, n_inner)
    if "internal_count" in lines:
        _integers(lines, "internal_count", n_inner)
    if "leaf_weight" in lines:
        _reals(lines, "leaf_weight", n_leaves)
    feature = _integers(lines, "split_feature", n_inner)
    _require(_within(feature, 0, n_features), "a feature index is out of range")
    decision = np.zeros(n_inner, dtype=np.int64)
    if "decision_type" in lines:
        decision = _integers(lines, "decision_type", n_inner)
    _require(_within(decision, 0, _MISSING_TYPES), "a decision type is not known")
    threshold = _reals(lines, "threshold", n_inner)
    is_categorical = (decision & _CATEGORICAL) > 0
    left = _integers(lines, "left_child", n_inner)
    right = _integers(lines, "right_child", n_inner)
    lowest = _categories(lines, n_categorical, threshold, is_categorical)
    return _Tree(left, right, feature, threshold, is_categorical, lowest) if n_inner else None


def _check_linear(lines: Lines, n_leaves: int, n_features: int) -> None:
    """Check the linear model in each leaf."""
    _normal_reals(lines, "leaf_const", n_leaves)
    sizes = _integers(lines, "num_features", n_leaves)
    _require(_within(sizes, 0, n_features + 1), "a leaf has more features than there are")
    total = int(sizes.sum())
    features = _integers(lines, "leaf_features", total)
    _require(_within(features, 0, n_features), "a feature index of a leaf is out of range")
    _normal_reals(lines, "leaf_coeff", total)


def _categories(lines: Lines, n_categorical: int, threshold: Array, is_categorical: Array) -> Array:
    """Check the bit sets of categories; a categorical split names one by its threshold."""
    lowest = np.full(len(threshold), -1, dtype=np.int64)
    _require(bool(n_categorical) or not is_categorical.any(), "a split by category has none")
    if not n_categorical:
        return lowest
    starts = _integers(lines, "cat_boundaries", n_categorical + 1)
    _require(
        starts[0] == 0 and bool((np.diff(starts) >= 0).all()), "the category boundaries do not rise"
    )
    words = _integers(lines, "cat_threshold", int(starts[-1]), most=2**32)
    indices = threshold[is_categorical]
    is_index = np.isfinite(indices) & (indices >= 0) & (indices < n_categorical)
    _require(bool(is_index.all()), "a split names categories that are not there")
    for node, index in zip(np.flatnonzero(is_categorical), indices.astype(np.int64), strict=True):
        own = words[starts[index] : starts[index + 1]]
        used = np.flatnonzero(own)
        if len(used):
            word = int(own[used[0]])
            lowest[node] = 32 * int(used[0]) + (word & -word).bit_length() - 1
    return lowest


def _check_children(tree: _Tree) -> tuple[Array, Array]:
    """Check that the nodes are one binary tree; return the parents of inner nodes and leaves."""
    n_inner = len(tree.left)
    n_leaves = n_inner + 1
    children = np.concatenate([tree.left, tree.right])
    _require(_within(children, -n_leaves, n_inner), "a child index is out of range")
    nodes = np.tile(np.arange(n_inner), 2)
    is_inner = children >= 0
    for found, expected in (
        (children[is_inner], np.arange(1, n_inner)),
        (-1 - children[~is_inner], np.arange(n_leaves)),
    ):
        # Each node but the root is the child of one other, and each leaf as well.
        _require(np.array_equal(np.sort(found), expected), "a node has two parents, or none")
    of_inner = np.full(n_inner, -1, dtype=np.int64)
    of_leaves = np.full(n_leaves, -1, dtype=np.int64)
    of_inner[children[is_inner]] = nodes[is_inner]
    of_leaves[-1 - children[~is_inner]] = nodes[~is_inner]
    # With one parent each, nodes that the root does not reach lie on a circle.
    level, n_reached = np.zeros(1, dtype=np.int64), 0
    while len(level):
        n_reached += len(level)
        below = np.concatenate([tree.left[level], tree.right[level]])
        level = below[below >= 0]
    _require(n_reached == n_inner, "nodes cannot be reached from the root")
    return of_inner, of_leaves


def _records(tree: _Tree, parents: tuple[Array, Array], n_features: int, n_records: int) -> Array:
    """Return records that reach up to `n_records` leaves, NaN where no condition applies."""
    of_inner, of_leaves = parents
    leaves = np.arange(len(of_leaves))[:: -(-len(of_leaves) // n_records)]
    rows = np.arange(len(leaves))
    least = np.full((len(leaves), n_features), -np.inf)
    most = np.full((len(leaves), n_features), np.inf)
    child, node = -1 - leaves, of_leaves[leaves]
    while len(node):
        is_left = tree.left[node] == child
        by_category = tree.is_categorical[node]
        cells = rows, tree.feature[node]
        category = np.where(tree.categories[node] >= 0, tree.categories[node], np.inf)
        upper = np.where(by_category, category, tree.threshold[node])
        most[cells] = np.where(is_left, np.fmin(most[cells], upper), most[cells])
        is_above = ~is_left & ~by_category
        least[cells] = np.where(is_above, np.fmax(least[cells], tree.threshold[node]), least[cells])
        child, node = node, of_inner[node]
        is_there = node >= 0
        child, node, rows = child[is_there], node[is_there], rows[is_there]
    with np.errstate(over="ignore"):
        highest, lowest = most.astype(np.float32), least.astype(np.float32)
    highest = np.where(highest > most, np.nextafter(highest, np.float32(-np.inf)), highest)
    lowest = np.where(lowest <= least, np.nextafter(lowest, np.float32(np.inf)), lowest)
    values = np.where(most < np.inf, highest, np.where(least > -np.inf, lowest, np.nan))
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def _objective(text: bytes | None, n_outputs: int) -> str | None:
    """Check an objective such as `multiclass num_class:3`; return its name."""
    if text is None:
        return None
    name, *options = text.decode("ascii", "backslashreplace").split(" ")
    if name in _CUSTOM:
        return None
    _require(OBJECTIVES.get(name) == name, f"the objective {name[:60]!r} is not one of LightGBM's")
    n_classes = 1
    for option in options:
        _require(
            _OPTION.fullmatch(option) is not None,
            f"the option {option[:60]!r} of the objective is not name:number",
        )
        key, _, value = option.partition(":")
        if key == "num_class":
            _require(value.isascii() and value.isdigit() and len(value) < 10, "num_class is wrong")
            n_classes = int(value)
    _require(
        sum(option.startswith("num_class") for option in options) == (name in _OF_CLASSES),
        f"the objective {name} has to say its number of classes once, if it has classes",
    )
    _require(
        n_classes == n_outputs,
        f"num_class of the objective is {n_classes} and that of the model {n_outputs}",
    )
    return name


def _member(lines: Lines, name: str) -> bytes:
    if name not in lines:
        raise ValueError(f"it has no line {name!r}")
    return lines[name]


def _whole(
    lines: Lines, name: str, *, least: int, most: int = 2**31 - 2, default: int | None = None
) -> int:
    if default is not None and name not in lines:
        return default
    text = _member(lines, name)
    if not (_NUMBER.fullmatch(text) and least <= int(text) <= most):
        shown = text[:20].decode("ascii", "backslashreplace")
        raise ValueError(f"{name} is {shown!r}; a whole number from {least} to {most} is expected")
    return int(text)


def _integers(lines: Lines, name: str, length: int, *, most: int = 2**31) -> Array:
    text = _member(lines, name)
    if not _INTEGERS.fullmatch(text):
        raise ValueError(f"{name} has elements that are not whole numbers")
    tokens = text.split()
    _check_length(name, tokens, length)
    if any(len(token) > 11 for token in tokens):
        raise ValueError(f"{name} has a number that is too large")
    values = np.array([int(token) for token in tokens], dtype=np.int64)
    _require(_within(values, -(2**31), most), f"{name} has a number that is too large")
    return values


def _reals(lines: Lines, name: str, length: int) -> Array:
    text = _member(lines, name)
    if not _REALS.fullmatch(text):
        raise ValueError(f"{name} has elements that are not numbers")
    tokens = text.split()
    _check_length(name, tokens, length)
    return np.array([float(token) for token in tokens], dtype=np.float64)


def _normal_reals(lines: Lines, name: str, length: int) -> None:
    """Check numbers that LightGBM reads by a function that aborts beyond the range of doubles."""
    values = _reals(lines, name, length)
    for token, value in zip(lines[name].split(), np.abs(values).tolist(), strict=True):
        is_zero = not token.partition(b"e")[0].strip(b"+-.0")
        is_normal = value == value and _SMALLEST <= value < np.inf
        _require(
            is_normal or is_zero or token.strip(b"+-") in (b"inf", b"nan"),
            f"{name} has a number that a 64-bit float does not hold",
        )


def _check_length(name: str, tokens: Sequence[bytes], length: int) -> None:
    _require(len(tokens) == length, f"{name} has {counted(len(tokens), 'element')}, not {length}")


def _within(values: Array, start: int, stop: int) -> bool:
    return not values.size or (int(values.min()) >= start and int(values.max()) < stop)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
