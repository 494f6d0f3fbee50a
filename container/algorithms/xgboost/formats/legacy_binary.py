"""Conversion of models in XGBoost's legacy binary format to UBJSON.

XGBoost wrote the format up to 3.0, and does not read it since 3.1. AWS's containers up to 1.7-1
left their models in it. The file is a dump of XGBoost's structures, little-endian, one after the
other:

    ["binf"] LearnerModelParam, objective, booster
    of gbtree and dart: GBTreeModelParam, {TreeParam, nodes, statistics} a tree, outputs of the
        trees; of dart then the weights of the trees
    of gblinear: GBLinearModelParam, weights
    [attributes]
    before 1.0: [max_delta_step of count:poisson], [metrics]

Strings and vectors begin with their length in 8 bytes. A length is checked against the bytes left
before it is used. The result is the UBJSON document of XGBoost 1.7, with bit for bit the same
numbers; `validation` checks its trees.

Source: XGBoost's source of 0.90, 1.0 and 1.7: learner.cc, gbtree_model.h, tree_model.h.
"""

import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import orjson

from container.algorithms.xgboost.formats import ubjson
from container.errors import ModelLoadError, counted

Array = np.ndarray[Any, Any]

# The header up to the booster's name; its first 136 bytes are arbitrary.
_HEAD = re.compile(
    rb"(binf)?.{136}[\x03-\x40]\0{7}[a-z]+:[\w:]+(\x06\0{7}gbtree|\x04\0{7}dart|\x08\0{7}gblinear)",
    re.DOTALL,
)
_MAGIC = b"binf"
_SNAPSHOT = b"CONFIG-offset:"  # a pickle of 1.0 to 1.2: a model, and the configuration after it
_VERSION = [1, 7, 0]  # of the resulting document

# base_score, num_feature, num_class, contain_extra_attrs, contain_eval_metrics, major_version,
# minor_version, num_target (from 1.6, else 0), and reserved bytes.
_LEARNER = struct.Struct("<fIiiiIII104x")
# num_trees, num_parallel_tree (from 1.6; before it num_roots, always 1), and unused bytes.
_FOREST = struct.Struct("<ii152x")
# num_roots, num_nodes, num_deleted, max_depth, num_feature, size_leaf_vector
_TREE = struct.Struct("<iiiiii124x")
_LINEAR_BYTES = 136
_NODE = np.dtype(
    [("parent", "<u4"), ("left", "<i4"), ("right", "<i4"), ("split", "<u4"), ("value", "<f4")]
)
_STATISTICS = np.dtype([("gain", "<f4"), ("hessian", "<f4"), ("weight", "<f4"), ("unused", "<i4")])
_LENGTH = struct.Struct("<Q")
_HIGH_BIT = 1 << 31  # of a parent: this is its left child; of a split: missing values go left

# Parameters that objectives require in a document and that models before 1.0 lack: for training
# only, so that defaults do.
_TRAINING_PARAMETERS = {
    "reg_loss_param": {"scale_pos_weight": "1"},
    "poisson_regression_param": {"max_delta_step": "0.7"},
    "tweedie_regression_param": {"tweedie_variance_power": "1.5"},
    "lambda_rank_param": {"fix_list_weight": "0", "num_pairsample": "1"},
}
_LOGISTIC = ("reg:logistic", "binary:logistic")
_LOGARITHMIC = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
# Internal values that the format stores as attributes.
_NOT_ATTRIBUTES = ("objective", "metrics", "count_poisson_max_delta_step")


class _Learner(NamedTuple):
    base_score: float
    n_features: int
    n_classes: int
    has_attributes: int
    has_metrics: int
    major: int
    minor: int
    n_targets: int

    @property
    def version(self) -> tuple[int, int]:
        """Version of the XGBoost that wrote the model; (0, 0) before 1.0."""
        return self.major, self.minor


def is_binary(content: bytes | memoryview) -> bool:
    """Return True if a file with these first bytes is a model in the binary format."""
    return bytes(content[:16]).startswith((_MAGIC, _SNAPSHOT)) or bool(_HEAD.match(content))


def convert(content: bytes | memoryview, name: str) -> bytes:
    """Convert a model to UBJSON, as XGBoost 1.7 would have written it.

    Args:
        content: The binary model, or a snapshot of a booster with one in it.
        name: The file's name, for the message.
    Raises:
        ModelLoadError: the model is damaged.
    """
    try:
        stream = _Stream(_without_configuration(memoryview(content)))
        document = _document(stream)
        stream.end()
        return ubjson.dump(document)
    except (ValueError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise ModelLoadError(
            f"{name} is damaged or not a model in XGBoost's binary format: {error}"
        ) from error


def _without_configuration(content: memoryview) -> memoryview:
    if bytes(content[: len(_SNAPSHOT)]) != _SNAPSHOT:
        return content
    stream = _Stream(content[len(_SNAPSHOT) :])
    return stream.take(stream.length())


class _Stream:
    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def end(self) -> None:
        if self._position != len(self._content):
            n_left = len(self._content) - self._position
            raise ValueError(f"the model is followed by {counted(n_left, 'byte')}")

    def take(self, n_bytes: int) -> memoryview:
        n_left = len(self._content) - self._position
        if not 0 <= n_bytes <= n_left:
            raise ValueError(f"{counted(n_bytes, 'byte')} expected, {n_left} left")
        piece = self._content[self._position : self._position + n_bytes]
        self._position += n_bytes
        return piece

    def skip_if_next(self, expected: bytes) -> None:
        if bytes(self._content[self._position : self._position + len(expected)]) == expected:
            self._position += len(expected)

    def record(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def array(self, dtype: np.dtype[Any], count: int) -> Array:
        return np.frombuffer(self.take(count * dtype.itemsize), dtype=dtype)

    def length(self) -> int:
        return int(self.record(_LENGTH)[0])

    def text(self) -> str:
        return str(self.take(self.length()), "utf-8")

    def floats(self) -> list[float]:
        values: list[float] = self.array(np.dtype("<f4"), self.length()).tolist()
        return values


def _document(stream: _Stream) -> dict[str, Any]:
    stream.skip_if_next(_MAGIC)
    learner = _Learner(*stream.record(_LEARNER))
    if not math.isfinite(learner.base_score):
        raise ValueError(f"the base score is {learner.base_score}")
    objective = stream.text().replace("reg:linear", "reg:squarederror")  # its name before 0.90
    booster = stream.text()
    if booster not in _BOOSTERS:
        raise ValueError(f"the booster {booster[:20]!r} is not known")
    gradient_booster = _BOOSTERS[booster](stream, learner)
    attributes = _attributes(stream) if learner.has_attributes else {}
    if learner.major < 1:
        if objective == "count:poisson":
            stream.text()
        if learner.has_metrics:
            for _ in range(stream.length()):
                stream.text()
    parameters = {
        "base_score": str(np.float32(_base_score(learner, objective))),
        "boost_from_average": "1",
        "num_class": str(learner.n_classes),
        "num_feature": str(learner.n_features),
        "num_target": str(max(1, learner.n_targets)),
    }
    return {
        "learner": {
            "attributes": _only_attributes(attributes),
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": gradient_booster,
            "learner_model_param": parameters,
            "objective": _objective(attributes.get("objective"), objective, learner),
        },
        "version": _VERSION,
    }


def _base_score(learner: _Learner, objective: str) -> float:
    """Return the base score in the form of 1.7; before 1.0 it was a margin."""
    stored = learner.base_score
    if learner.version >= (1, 3) or (learner.major and objective != "binary:logitraw"):
        return stored
    if learner.major:  # binary:logitraw up to 1.2: a probability; 1.7 stores the margin
        if not 0 < stored < 1:
            raise ValueError(f"the base score is {stored}, which is not a probability")
        return math.log(stored / (1 - stored))
    if objective in _LOGISTIC:
        return 1 / (1 + math.exp(-stored))
    return math.exp(stored) if objective in _LOGARITHMIC else stored


def _objective(stored: str | None, name: str, learner: _Learner) -> dict[str, Any]:
    if stored is None:
        classes = {"softmax_multiclass_param": {"num_class": str(learner.n_classes)}}
        return {"name": name} | _TRAINING_PARAMETERS | classes
    objective = orjson.loads(stored)
    if not isinstance(objective, dict):
        raise TypeError("the objective is not an object")
    return objective


def _attributes(stream: _Stream) -> dict[str, str]:
    return {stream.text(): stream.text() for _ in range(stream.length())}


def _only_attributes(stored: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in stored.items()
        if key not in _NOT_ATTRIBUTES and not key.startswith("SAVED_PARAM_")
    }


def _trees(stream: _Stream, learner: _Learner) -> dict[str, Any]:
    n_trees, trees_a_round = stream.record(_FOREST)
    trees = [_tree(stream, index) for index in range(n_trees)]
    outputs = stream.array(np.dtype("<i4"), n_trees).tolist()
    parameters = {
        "num_trees": str(n_trees),
        "num_parallel_tree": str(max(1, trees_a_round) if learner.version >= (1, 6) else 1),
        "size_leaf_vector": "0",
    }
    model = {"gbtree_model_param": parameters, "trees": trees, "tree_info": outputs}
    return {"name": "gbtree", "model": model}


def _tree(stream: _Stream, index: int) -> dict[str, Any]:
    n_roots, n_nodes, n_deleted, _, n_features, leaf_size = stream.record(_TREE)
    if n_roots != 1 or leaf_size > 1:
        raise ValueError(
            f"tree {index} has {counted(n_roots, 'root')} and leaves of "
            f"{counted(leaf_size, 'value')}"
        )
    nodes, statistics = stream.array(_NODE, n_nodes), stream.array(_STATISTICS, n_nodes)
    parameters = {
        "num_deleted": str(n_deleted),
        "num_feature": str(n_features),
        "num_nodes": str(n_nodes),
        "size_leaf_vector": "0",
    }
    return {
        "id": index,
        "tree_param": parameters,
        "left_children": nodes["left"],
        "right_children": nodes["right"],
        "parents": (nodes["parent"] & (_HIGH_BIT - 1)).astype(np.int32),
        "split_indices": (nodes["split"] & (_HIGH_BIT - 1)).astype(np.int32),
        "split_conditions": nodes["value"],
        "default_left": (nodes["split"] >= _HIGH_BIT).astype(np.uint8),
        "split_type": np.zeros(n_nodes, dtype=np.uint8),
        "loss_changes": statistics["gain"],
        "sum_hessian": statistics["hessian"],
        "base_weights": statistics["weight"],
        "categories": np.zeros(0, dtype=np.int32),
        "categories_nodes": np.zeros(0, dtype=np.int32),
        "categories_segments": np.zeros(0, dtype=np.int64),
        "categories_sizes": np.zeros(0, dtype=np.int64),
    }


def _dart(stream: _Stream, learner: _Learner) -> dict[str, Any]:
    trees = _trees(stream, learner)
    weights = stream.floats() if trees["model"]["trees"] else []
    return {"name": "dart", "gbtree": trees, "weight_drop": weights}


def _linear(stream: _Stream, learner: _Learner) -> dict[str, Any]:
    stream.take(_LINEAR_BYTES)
    # The format does not say how many; without any, 3.2 takes the base score for a margin.
    return {"name": "gblinear", "model": {"boosted_rounds": 1, "weights": stream.floats()}}


_BOOSTERS: dict[str, Callable[[_Stream, _Learner], dict[str, Any]]] = {
    "gbtree": _trees,
    "dart": _dart,
    "gblinear": _linear,
}
