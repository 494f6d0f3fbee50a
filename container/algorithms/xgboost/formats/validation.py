"""Validation of model files before XGBoost reads them: versions, and every size that it trusts.

XGBoost compares few of the sizes that a model declares. It writes beyond its buffers if trees have
more outputs than the model, and allocates `num_target` values for every record. `forest` checks the
trees themselves.

Source: XGBoost's source of 3.2 and 3.4: learner.cc, gbtree_model.cc, cpu_predictor.cc.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from container.algorithms.xgboost.formats import ubjson
from container.algorithms.xgboost.formats.forest import (
    Forest,
    Tree,
    integers,
    leaf_size,
    number,
    require,
    within,
)
from container.errors import ModelLoadError, counted

Array = np.ndarray[Any, Any]

# Objectives with a link function between the base score and the margin that is added.
_WITH_A_LINK = (
    *("reg:logistic", "binary:logistic", "count:poisson"),
    *("reg:gamma", "reg:tweedie", "survival:cox"),
)
_UNTRAINED = (
    "the model has no trees or weights: it was trained for 0 rounds; train it for at least 1 "
    "(num_round, num_boost_round)"
)
# Size of the validation run's records: about a millisecond of predicting.
_MAX_RECORDS = 512
_MAX_CELLS = 2**20
_MAX_FEATURES = 2**26  # XGBoost unpacks every record to so many: 256 MiB
_NODES_AT_ONCE = 2**18  # each takes 100 bytes while it is checked
# A string of JSON with an escape that XGBoost leaves as it is, before a colon.
_ESCAPED_NAME = re.compile(rb'\\u[^"\\]*(?:\\.[^"\\]*)*"\s*:')


def check(content: bytes | memoryview, name: str, installed: tuple[int, ...]) -> Array:
    """Validate a model that XGBoost might misread or crash on.

    Args:
        content: The model in UBJSON or JSON.
        name: The file's name, for the message.
        installed: Version of the installed XGBoost.
    Returns:
        Records that reach leaves of the model, float32 `[n, n_features]`; none for a linear model.
    Raises:
        ModelLoadError: with the problem, and the tree at fault.
    """
    try:
        model = parse(content)
        written = tuple(int(part) for part in model["version"])
        _check_version(written, installed)
        _check_base_score(model["learner"], written)
        return _check_learner(model["learner"])
    except _UnusableModelError as error:
        raise ModelLoadError(f"{name}: {error}") from error
    except KeyError as error:
        problem = f"it has no member {error}"
        raise ModelLoadError(f"{name} is damaged or not an XGBoost model: {problem}") from error
    except (ValueError, TypeError, IndexError, RecursionError, OverflowError) as error:
        raise ModelLoadError(f"{name} is damaged or not an XGBoost model: {error}") from error


def is_foreign(content: bytes | memoryview) -> bool:
    """Return True if the content is a whole document, but not that of an XGBoost model.

    Content that cannot be parsed is not foreign: it may be a damaged model.
    """
    try:
        document = parse(content)
    except (ValueError, RecursionError):
        return False
    learner = document.get("learner") if isinstance(document, dict) else None
    return not (isinstance(learner, dict) and "gradient_booster" in learner)


class _UnusableModelError(ValueError):
    """The model is sound, but the installed XGBoost cannot use it."""


def parse(content: bytes | memoryview) -> Any:
    """Read a document of either format.

    Raises:
        ValueError, RecursionError: the content is not a document; or an object has two members of
            the same name, of which XGBoost may take the one that was not checked.
    """
    # Both begin with a brace; in UBJSON the type of the first key's length follows.
    if bytes(content[1:2]) in (b"L", b"l", b"I", b"i", b"U"):
        return ubjson.parse(content)
    content = bytes(content)
    if b"\\u" in content and _ESCAPED_NAME.search(content):
        raise ValueError("the name of a member is escaped, which XGBoost reads as another name")
    # `json` reads NaN and Infinity, which XGBoost writes, and reports repeated names.
    return json.loads(content, object_pairs_hook=_object)


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
    """Refuse models to which XGBoost silently adds another constant (found by comparison)."""
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


def _check_learner(learner: Mapping[str, Any]) -> Array:
    """Compare every size that XGBoost trusts with the content; return the records of `check`."""
    parameters = learner["learner_model_param"]
    n_features = number(parameters, "num_feature", least=0, most=_MAX_FEATURES)
    n_outputs = _n_outputs(parameters)
    records = _check_booster(learner["gradient_booster"], n_features, n_outputs)
    _check_objective(learner["objective"], n_outputs)
    _check_base_score_length(parameters["base_score"], n_outputs)
    return records


def _check_booster(booster: Mapping[str, Any], n_features: int, n_outputs: int) -> Array:
    if booster["name"] == "gblinear":
        n_weights = len(booster["model"]["weights"])
        if not n_weights:
            raise _UnusableModelError(_UNTRAINED)
        require(
            n_weights == (n_features + 1) * n_outputs,
            f"the model has {counted(n_weights, 'weight')}; {counted(n_features, 'feature')} and a "
            f"bias for each of {counted(n_outputs, 'output')} are {(n_features + 1) * n_outputs}",
        )
        return np.zeros((0, n_features), dtype=np.float32)
    forest = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    n_trees = _check_rounds(forest)
    weights = booster.get("weight_drop", forest.get("weight_drop"))  # 3.4 moved them
    if booster["name"] == "dart" or weights:
        require(
            len(weights) == n_trees,
            f"the model has {counted(n_trees, 'tree')} and {counted(len(weights), 'tree weight')}",
        )
    _check_outputs(forest, n_outputs)
    n_records = min(_MAX_RECORDS, _MAX_CELLS // max(1, n_features, n_outputs))
    records = None
    for first, trees in _batches(forest["trees"]):
        batch = Forest(trees, n_features, first=first)
        if records is None:
            records = batch.records(n_records)
    return np.zeros((0, n_features), dtype=np.float32) if records is None else records


def _batches(trees: Sequence[Tree]) -> Iterator[tuple[int, Sequence[Tree]]]:
    """Yield trees in groups of a bounded number of nodes, with the index of the first tree."""
    first = n_nodes = 0
    for index, tree in enumerate(trees):
        if n_nodes >= _NODES_AT_ONCE:
            yield first, trees[first:index]
            first, n_nodes = index, 0
        n_nodes += len(tree["left_children"])
    yield first, trees[first:]


def _n_outputs(parameters: Mapping[str, Any]) -> int:
    n_classes = number(parameters, "num_class", least=0)
    n_targets = number(parameters, "num_target", least=1, default=1)
    if n_classes > 1 and n_targets > 1:
        raise ValueError(f"num_class is {n_classes} and num_target {n_targets}: one has to be 1")
    return max(1, n_classes, n_targets)


def _check_base_score_length(text: str, n_outputs: int) -> None:
    """Check the number of base scores: since 3.1 a base score may be a list."""
    n_scores = len(text.strip("[]").split(","))
    require(
        n_scores in (1, n_outputs),
        f"the model has {counted(n_outputs, 'output')} and {counted(n_scores, 'base score')}",
    )


def _check_objective(objective: Mapping[str, Any], n_outputs: int) -> None:
    """Check the number of outputs that an objective stores itself."""
    if objective["name"] in ("multi:softmax", "multi:softprob"):
        n_classes = number(objective["softmax_multiclass_param"], "num_class", least=1)
        require(
            n_classes == n_outputs,
            f"num_class of the objective is {n_classes} and the model has "
            f"{counted(n_outputs, 'output')}",
        )
    if objective["name"] == "reg:quantileerror":
        alphas = objective["quantile_loss_param"]["quantile_alpha"].strip("[]() ")
        n_alphas = len([alpha for alpha in alphas.split(",") if alpha.strip()])
        require(
            n_outputs % max(1, n_alphas) == 0,
            f"the objective has {counted(n_alphas, 'quantile')} and the model "
            f"{counted(n_outputs, 'output')}",
        )


def _check_rounds(forest: Mapping[str, Any]) -> int:
    """Check the counts of trees and the starts of rounds; return the number of trees."""
    parameters = forest["gbtree_model_param"]
    n_trees = number(parameters, "num_trees", least=0)
    for key in ("trees", "tree_info"):
        n_elements = len(forest[key])
        require(
            n_elements == n_trees,
            f"num_trees is {n_trees}, and {key} has {counted(n_elements, 'element')}",
        )
    if not n_trees:
        raise _UnusableModelError(_UNTRAINED)
    number(parameters, "num_parallel_tree", least=1, most=n_trees, default=1)
    if "iteration_indptr" in forest:  # since 2.0
        starts = integers(forest["iteration_indptr"])
        require(
            len(starts) > 1
            and starts[0] == 0
            and starts[-1] == n_trees
            and bool((np.diff(starts) >= 0).all()),
            f"iteration_indptr does not rise from 0 to {n_trees}, the number of trees",
        )
    return n_trees


def _check_outputs(forest: Mapping[str, Any], n_outputs: int) -> None:
    """Check that every output has its own trees, or each tree has all outputs."""
    trees, groups = forest["trees"], integers(forest["tree_info"])
    sizes = {leaf_size(tree) for tree in trees}
    if sizes != {1}:
        if any("leaf_weights" not in tree for tree in trees):
            raise _UnusableModelError(
                "its trees have several outputs each, in a form that XGBoost up to 3.0 wrote and "
                "later ones do not read; train it again with the installed XGBoost"
            )
        require(
            sizes == {n_outputs},
            f"the leaves of its trees have {', '.join(map(str, sorted(sizes)))} values "
            f"(size_leaf_vector), and the model has {counted(n_outputs, 'output')} "
            "(num_target, num_class)",
        )
        require(not groups.any(), "tree_info names an output of trees that have all of them")
        return
    require(within(groups, 0, n_outputs), "a tree belongs to no output")
    n_with_trees = len(set(groups.tolist()))  # np.unique imports numpy.ma: 16 ms a run
    require(
        n_with_trees == n_outputs,
        f"the model declares {counted(n_outputs, 'output')} (num_target, num_class) and has trees "
        f"for {n_with_trees}",
    )
