"""Validation of the trees of a model file, all at once, and records that reach their leaves.

XGBoost accepts a tree with a child or feature index out of range, or with a cycle of nodes, and
crashes (SIGSEGV) on the first record that goes that way. It takes the node after the left child for
the right one, whatever the file says, measures depth by recursion, and follows `parents` unchecked.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from container.errors import counted

Array = np.ndarray[Any, Any]
Tree = Mapping[str, Any]

_NO_CHILD = -1
_NUMERICAL, _CATEGORICAL = 0, 1
_MAX_CATEGORY = 2**24  # XGBoost's own limit: single precision has no larger whole numbers in a row
_MAX_NUMBER = 2**31 - 1
# Recursion of this depth takes a megabyte of the 8 that a thread's stack has.
_MAX_DEPTH = 10_000
_INDICES = ("left_children", "right_children", "parents", "split_indices")
# Arrays with an element for each node; all must be there.
_PER_NODE = (*_INDICES, "split_conditions", "default_left", "loss_changes", "sum_hessian")
_CATEGORY_ARRAYS = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_WHOLE_NUMBER = re.compile(r"\d{1,10}", re.ASCII)


class Forest:
    """Trees of a model, with the nodes of all trees concatenated."""

    def __init__(self, trees: Sequence[Tree], n_features: int, *, first: int = 0) -> None:
        """Validate the trees.

        Args:
            trees: At least one tree, in the form of a model file.
            n_features: Number of features of the model.
            first: Index of the first tree in the model.
        Raises:
            ValueError, KeyError, TypeError: XGBoost would misread the trees or crash on them.
        """
        sizes = [_n_nodes(tree, index) for index, tree in enumerate(trees, first)]
        self._first = first
        self._leaf_sizes = np.array([leaf_size(tree) for tree in trees])
        self._n_nodes = np.array(sizes)
        self._roots = np.cumsum(self._n_nodes) - self._n_nodes
        self._tree_of_node = np.repeat(np.arange(len(sizes)), self._n_nodes)
        self._n_features = n_features
        # Children as indices among all nodes; the -1 of a leaf gives an index that is not used.
        offsets = self._roots[self._tree_of_node]
        left = _joined(trees, "left_children")
        self._is_inner = left != _NO_CHILD
        self._left = left + offsets
        self._right = _joined(trees, "right_children") + offsets
        self._parent = _joined(trees, "parents") + offsets
        self._feature = _joined(trees, "split_indices")
        self._trees = trees
        self._check_children()
        self._check_leaves()
        self._check_depth()
        is_there = (self._feature >= 0) & (self._feature < n_features)
        self._check_all(is_there | ~self._is_inner, "a feature index is out of range")
        for index, tree in enumerate(trees, first):
            if "split_type" in tree:  # since 1.3
                _check_categories(tree, f"tree {index}")

    def records(self, n_records: int) -> Array:
        """Return records that reach leaves all over the trees, as far as the conditions allow.

        Returns:
            Float32 `[n, n_features]` with `n` up to `n_records`; NaN where no condition applies.
        """
        leaves = np.flatnonzero(~self._is_inner)
        leaves = leaves[:: -(-len(leaves) // n_records)] if n_records else leaves[:0]
        conditions = np.concatenate(
            [np.asarray(tree["split_conditions"], dtype=np.float32) for tree in self._trees]
        )
        rows = np.arange(len(leaves))
        shape = (len(leaves), self._n_features)
        least = np.full(shape, -np.inf, dtype=np.float32)
        below = np.full(shape, np.inf, dtype=np.float32)
        node = leaves
        while len(node):
            is_child = node != self._roots[self._tree_of_node[node]]
            node, rows = node[is_child], rows[is_child]
            parent = self._parent[node]
            is_left = self._left[parent] == node
            feature, condition = self._feature[parent], conditions[parent]
            cells = rows[is_left], feature[is_left]
            below[cells] = np.fmin(below[cells], condition[is_left])
            cells = rows[~is_left], feature[~is_left]
            least[cells] = np.fmax(least[cells], condition[~is_left])
            node = parent
        left_of = np.nextafter(below, np.float32(-np.inf))
        values = np.where(least > -np.inf, least, np.where(below < np.inf, left_of, np.nan))
        return np.clip(values, np.finfo(np.float32).min, np.finfo(np.float32).max)

    def _check_children(self) -> None:
        inner, left, right = self._is_inner, self._left, self._right
        start = self._roots[self._tree_of_node]
        stop = start + self._n_nodes[self._tree_of_node]
        # From 1: no child is the root, node 0.
        in_range = (left > start) & (left < stop) & (right > start) & (right < stop)
        self._check_all(in_range | ~inner, "a child index is out of range")
        children = np.concatenate([left[inner], right[inner]])
        n_parents = np.bincount(children, minlength=len(left))
        self._check_all(n_parents <= 1, "a node has two parents")
        is_beside = (right == left + 1) | ~inner
        self._check_all(is_beside, "a right child is not the node after the left one")
        in_range = (self._parent >= start) & (self._parent < stop)
        in_range[self._roots] = True  # XGBoost writes -1 or 2**31 - 1 as the parent of a root
        self._check_all(in_range, "a parent index is out of range")
        nodes = np.flatnonzero(inner)
        is_known = np.ones(len(left), dtype=bool)
        for child in (left[inner], right[inner]):
            is_known[child] = self._parent[child] == nodes
        self._check_all(is_known, "a child names another parent")

    def _check_leaves(self) -> None:
        trees = self._trees
        is_vector = self._leaf_sizes[self._tree_of_node] > 1
        right = self._right - self._roots[self._tree_of_node]
        is_leaf = ~self._is_inner
        self._check_all((right == _NO_CHILD) | is_vector | ~is_leaf, "a leaf has a child")
        if not is_vector.any():
            return
        # The right child of such a leaf is the index of its vector of weights.
        n_leaves = np.ones(len(trees), dtype=np.int64)
        for index in np.flatnonzero(self._leaf_sizes > 1).tolist():
            n_weights, size = len(trees[index]["leaf_weights"]), int(self._leaf_sizes[index])
            require(
                n_weights > 0 and n_weights % size == 0,
                f"tree {self._first + index} has {n_weights} leaf weights for leaves of {size}",
            )
            n_leaves[index] = n_weights // size
        is_there = (right >= 0) & (right < n_leaves[self._tree_of_node])
        self._check_all(is_there | ~is_vector | ~is_leaf, "a leaf has no weights")

    def _check_depth(self) -> None:
        """Check depth and reachability, level by level from the roots."""
        level, n_inner = self._roots, 0
        for _ in range(_MAX_DEPTH):
            level = level[self._is_inner[level]]
            if not len(level):
                break
            n_inner += len(level)
            level = np.concatenate([self._left[level], self._right[level]])
        require(not len(level), f"a tree is deeper than {_MAX_DEPTH} levels")
        require(n_inner == int(self._is_inner.sum()), "nodes of a tree cannot be reached")

    def _check_all(self, holds: Array, problem: str) -> None:
        if not holds.all():
            index = self._first + self._tree_of_node[int(np.argmin(holds))]
            raise ValueError(f"tree {index}: {problem}")


def number(
    values: Mapping[str, Any],
    key: str,
    *,
    least: int,
    most: int = _MAX_NUMBER,
    default: int | None = None,
) -> int:
    """Read a whole number that XGBoost writes as text, as strictly as all of its readers."""
    if default is not None and key not in values:
        return default
    text = values[key]
    if not (isinstance(text, str) and _WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= most):
        raise ValueError(
            f"{key} is {str(text)[:20]!r}; a number from {least} to {most} is expected"
        )
    return int(text)


def integers(values: Any) -> Array:
    """Return whole numbers in one dimension as int64; raise `ValueError` for all else."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iub" and array.size):
        raise ValueError("integers are expected")
    return array.astype(np.int64)


def within(values: Array, start: int, stop: int) -> bool:
    """Return True if all values are in `range(start, stop)`."""
    return not values.size or (int(values.min()) >= start and int(values.max()) < stop)


def require(holds: bool, problem: str) -> None:
    """Raise `ValueError` with `problem` unless `holds`."""
    if not holds:
        raise ValueError(problem)


def _n_nodes(tree: Tree, index: int) -> int:
    """Return the number of nodes, which is the length of every array."""
    require(tree["id"] == index, f"tree {index} has the id {tree['id']}")
    n_nodes = number(tree["tree_param"], "num_nodes", least=1)
    for key in _PER_NODE + (("split_type",) if "split_type" in tree else ()):
        n_elements = len(tree[key])
        require(
            n_elements == n_nodes,
            f"tree {index}: {key} has {counted(n_elements, 'element')}, not {n_nodes}",
        )
    n_weights = len(tree["base_weights"])
    # With a reduced gradient a tree of several outputs has fewer weights than outputs a node.
    is_whole = leaf_size(tree) > 1 and n_weights > 0 and n_weights % n_nodes == 0
    require(
        n_weights == n_nodes or is_whole,
        f"tree {index}: base_weights has {counted(n_weights, 'element')} for "
        f"{counted(n_nodes, 'node')}",
    )
    return n_nodes


def leaf_size(tree: Tree) -> int:
    """Return the number of values of a leaf."""
    return max(1, number(tree["tree_param"], "size_leaf_vector", least=0, default=1))


def _joined(trees: Sequence[Tree], key: str) -> Array:
    return np.concatenate([integers(tree[key]) for tree in trees])


def _check_categories(tree: Tree, name: str) -> None:
    categories, nodes, starts, sizes = (tree[key] for key in _CATEGORY_ARRAYS)
    kinds = integers(tree["split_type"])
    require(within(kinds, _NUMERICAL, _CATEGORICAL + 1), f"{name}: a split type is not known")
    split_by_category = np.flatnonzero(kinds == _CATEGORICAL)
    if not len(split_by_category) and not len(nodes):
        return
    categories, nodes, starts, sizes = map(integers, (categories, nodes, starts, sizes))
    require(len(nodes) == len(starts) == len(sizes), f"{name}: the category segments do not match")
    # XGBoost iterates over both in parallel.
    require(
        np.array_equal(nodes, split_by_category), f"{name}: the splits lack or repeat categories"
    )
    n_categories = len(categories)
    in_range = within(starts, 0, n_categories) and within(sizes, 1, n_categories + 1)
    require(
        in_range and within(starts + sizes, 1, n_categories + 1),
        f"{name}: a category segment is out of range",
    )
    require(within(categories, 0, _MAX_CATEGORY), f"{name}: a category is out of range")
