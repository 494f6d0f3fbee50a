"""Sound models of many kinds, and damage done to them: to bytes, and to fields of the document.

Legacy binary models come from the archives of the tests, written by the XGBoost of their time.
"""

import json
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import xgboost

from benchmarks.harness.servers import ROOT
from container.algorithms.xgboost.formats import ubjson

N_FEATURES = 3  # as the old models have
_OLD_MODELS = ROOT / "tests" / "unit" / "container" / "algorithms" / "models_of_old"
_ROUNDS = 3
_EXTREMES = (
    *(0, 1, -1, 2, 3, 7, 64, 255, 256, 65535, 65536, 2**24, 2**31 - 1, -(2**31)),
    *(2**32 - 1, 2**32, 2**63 - 1),
)
_TEXTS = ("", "x", "-1", "1e9", "nan", "inf", "1_0", " 1", "multi:softmax", "gbtree", "dart")

Random = np.random.Generator


def sound_models() -> dict[str, bytes]:
    """Content of model files by kind and format, all of `N_FEATURES` features."""
    random = np.random.default_rng(1)
    features = random.random((200, N_FEATURES)).astype(np.float32)
    target = features[:, 0] + features[:, 1] * features[:, 2]
    classes = (target * 3).astype(int) % 3
    both = np.column_stack([target, -target])
    kinds: dict[str, dict[str, Any]] = {
        "regression": {},
        "forest": {"num_parallel_tree": 3},
        "deep": {"max_depth": 9, "min_child_weight": 0},
        "logistic": {"objective": "binary:logistic", "labels": target > 0.5},
        "softprob": {"objective": "multi:softprob", "num_class": 3, "labels": classes},
        "softmax": {"objective": "multi:softmax", "num_class": 3, "labels": classes},
        "targets": {"labels": both},
        "vectors": {"labels": both, "multi_strategy": "multi_output_tree"},
        "dart": {"booster": "dart", "rate_drop": 0.5},
        "linear": {"booster": "gblinear", "max_depth": None},
        "linear-classes": {
            **{"booster": "gblinear", "objective": "multi:softprob", "num_class": 3},
            **{"labels": classes, "max_depth": None},
        },
        "categories": {"feature_types": ["q", "q", "c"], "labels": target},
        "ranking": {"objective": "rank:ndcg", "labels": classes, "group": [20] * 10},
        "cox": {"objective": "survival:cox", "labels": target + 0.1},
        "aft": {"objective": "survival:aft", "label_lower_bound": target + 0.1},
        "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
        "poisson": {"objective": "count:poisson", "labels": classes},
    }
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, parameters in kinds.items():
            booster = _train(features, target, **parameters)
            for raw_format in ("json", "ubj"):
                found[f"{kind}.{raw_format}"] = bytes(booster.save_raw(raw_format))
    return found | _old_models()


def _train(
    features: Any,
    target: Any,
    labels: Any = None,
    feature_types: list[str] | None = None,
    group: list[int] | None = None,
    label_lower_bound: Any = None,
    **parameters: Any,
) -> xgboost.Booster:
    if feature_types:
        features = features.copy()
        features[:, -1] = np.floor(features[:, -1] * 40)
        labels = labels + features[:, -1] % 3
    data = xgboost.DMatrix(
        features,
        target if labels is None else labels,
        feature_types=feature_types,
        enable_categorical=bool(feature_types),
    )
    if group is not None:
        data.set_group(group)
    if label_lower_bound is not None:
        data.set_float_info("label_lower_bound", label_lower_bound)
        data.set_float_info("label_upper_bound", label_lower_bound * 2)
    return xgboost.train({"nthread": 1, "max_depth": 4} | parameters, data, _ROUNDS)


def _old_models() -> dict[str, bytes]:
    found = {}
    for archive in sorted(_OLD_MODELS.glob("*.zip")):
        with zipfile.ZipFile(archive) as models:
            for name in models.namelist():
                if not name.endswith(".json"):
                    found[f"{archive.stem}-{name}"] = models.read(name)
    return found


def mutated(content: bytes, random: Random) -> tuple[str, bytes]:
    """Return one damaged copy of a model, and the description of the damage."""
    is_document = content[:1] == b"{"
    if is_document and random.random() < 0.75:
        return _of_fields(content, random)
    return _of_bytes(content, random)


def _of_bytes(content: bytes, random: Random) -> tuple[str, bytes]:
    changed = bytearray(content)
    deeds = ["flip", "flip", "flip", "word", "word", "word", "cut", "drop", "insert", "copy"]
    deed = str(random.choice(deeds))
    start = int(random.integers(len(changed)))
    size = int(random.integers(1, 64))
    if deed == "flip":
        for _ in range(random.integers(1, 9)):
            changed[random.integers(len(changed))] = int(random.integers(256))
    elif deed == "word":  # a field of the binary format
        number = int(random.choice(np.array(_EXTREMES, dtype=object))) % 2**32
        changed[start : start + 4] = number.to_bytes(4, "little")
    elif deed == "cut":
        del changed[start:]
    elif deed == "drop":
        del changed[start : start + size]
    elif deed == "insert":
        changed[start:start] = random.bytes(size)
    else:
        other = int(random.integers(len(changed)))
        changed[start : start + size] = changed[other : other + size]
    return f"bytes: {deed}", bytes(changed)


def _of_fields(content: bytes, random: Random) -> tuple[str, bytes]:
    is_text = content[1:2] != b"L"
    document = json.loads(content) if is_text else ubjson.parse(content)
    deeds = []
    for _ in range(random.integers(1, 4)):
        fields = list(_fields(document))
        # Most fields belong to trees: half of the time one of the others.
        outside = [field for field in fields if "trees" not in field[0]]
        if outside and random.random() < 0.5:
            fields = outside
        path, parent, key = fields[random.integers(len(fields))]
        deeds.append(f"{path}: {_change(parent, key, random)}")
    try:
        dumped = json.dumps(document).encode() if is_text else ubjson.dump(document)
    except (TypeError, KeyError, OverflowError, ValueError, AttributeError, OSError):
        return _of_bytes(content, random)  # no form for it in this format
    except Exception as error:
        if type(error).__name__ != "error":  # struct.error: a number that does not fit
            raise
        return _of_bytes(content, random)
    return "; ".join(deeds), dumped


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every number, text and array of a document: its path, its container and its key."""
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        member, name = value[key], f"{path}/{key}"
        yield name, value, key
        if isinstance(member, dict) or (
            isinstance(member, list) and member and isinstance(member[0], dict)
        ):
            yield from _fields(member, name)


def _change(parent: Any, key: Any, random: Random) -> str:
    value = parent[key]
    if random.random() < 0.05:
        del parent[key]
        return "deleted"
    if isinstance(value, np.ndarray):
        return _change_array(parent, key, value.copy(), random)
    if isinstance(value, list):
        return _change_list(value, random)
    if isinstance(value, str):
        number = str(random.choice(np.array(_EXTREMES, dtype=object)))
        parent[key] = number if random.random() < 0.8 else str(random.choice(_TEXTS))
    elif isinstance(value, bool | int | float):
        parent[key] = int(random.choice(np.array(_EXTREMES[:14], dtype=object)))
    else:
        parent[key] = {}
    return f"{str(value)[:20]!r} to {str(parent[key])[:20]!r}"


def _change_list(values: list[Any], random: Random) -> str:
    if not values or random.random() < 0.15:
        values.extend(values or [0])
        return "lengthened"
    deed = str(random.choice(["set", "set", "swap", "cut", "empty", "near"]))
    first, second = random.integers(len(values), size=2)
    if deed == "set":
        values[first] = int(random.choice(np.array(_EXTREMES, dtype=object)))
    elif deed == "near" and isinstance(values[first], int | float):
        values[first] += int(random.integers(-3, 4))
    elif deed == "swap":
        values[first], values[second] = values[second], values[first]
    elif deed == "cut":
        del values[first:]
    elif deed == "empty":
        values.clear()
    return deed


def _change_array(parent: Any, key: Any, values: Any, random: Random) -> str:
    deed = str(random.choice(["set", "set", "near", "swap", "cut", "longer", "type"]))
    if len(values):
        first, second = random.integers(len(values), size=2)
        if deed == "set":
            limits = np.iinfo(values.dtype) if values.dtype.kind in "iu" else None
            number = int(random.choice(np.array(_EXTREMES, dtype=object)))
            values[first] = number if limits is None else np.clip(number, limits.min, limits.max)
        elif deed == "near" and values.dtype.kind == "i":
            values[first] += int(random.integers(-3, 4))
        elif deed == "swap":
            values[[first, second]] = values[[second, first]]
        elif deed == "cut":
            values = values[:first]
    if deed == "longer":
        values = np.concatenate([values, values[:5], np.zeros(3, dtype=values.dtype)])
    elif deed == "type":
        other = [dtype for dtype in (">i4", ">f4", ">i8", "u1") if dtype != values.dtype.str]
        with np.errstate(all="ignore"):
            values = values.astype(str(random.choice(other)))
    parent[key] = values
    return deed
