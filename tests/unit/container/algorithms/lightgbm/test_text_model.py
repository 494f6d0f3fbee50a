"""Serving's own binding against `lightgbm` called directly, and texts that it must not be given."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import scipy.sparse

from container.algorithms.lightgbm.lightgbm_algorithm import ALGORITHM
from container.algorithms.lightgbm.serving.text_model import LightGBMModel, verify
from container.algorithms.serving_contract import ServingOptions
from container.codecs.records import SparseRows
from container.errors import ModelLoadError

RANDOM = np.random.default_rng(7)
N_ROWS = 400
FEATURES = RANDOM.normal(size=(N_ROWS, 6)).astype(np.float32)
FEATURES[:, 3] = RANDOM.integers(0, 70, N_ROWS)
FEATURES[RANDOM.random(FEATURES.shape) < 0.1] = np.nan
TARGET = np.nan_to_num(FEATURES[:, 0]) + np.nan_to_num(FEATURES[:, 3]) % 2
CLASSES = np.digitize(TARGET, [0, 1])
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "regression": (TARGET, {}),
    "binary": (TARGET > 0.5, {}),
    "multiclass": (CLASSES, {"num_class": 3}),
    "multiclassova": (CLASSES, {"num_class": 3}),
    "poisson": (CLASSES, {}),
    "lambdarank": (CLASSES, {}),
}


def _trained(objective: str, **parameters: Any) -> lightgbm.Booster:
    labels, own = CASES[objective]
    given = {"objective": objective, "num_threads": 1, "verbosity": -1, "min_data_per_group": 5}
    given |= own | {"cat_smooth": 1} | parameters
    group = [20] * 20 if objective == "lambdarank" else None
    data = lightgbm.Dataset(
        FEATURES, labels.astype(np.float32), group=group, categorical_feature=[3]
    )
    return lightgbm.train(given, data, 8)


def _saved(booster: lightgbm.Booster, directory: Path, name: str = "model.txt") -> Path:
    booster.save_model(directory / name)
    return directory / name


def _changed(file: Path, old: str, new: str) -> Path:
    """Change a text, and `tree_sizes` with it, as one who wants to be served would."""
    text = file.read_text()
    assert old in text
    before, sign, rest = text.replace(old, new, 1).partition("\nTree=0")
    trees, end, tail = f"{sign}{rest}".partition("end of trees")
    blocks = trees.split("\nTree=")[1:]
    sizes = [len(f"Tree={block}\n".encode()) for block in blocks]
    sizes[-1] -= 1
    lines = [
        f"tree_sizes={' '.join(map(str, sizes))}" if line.startswith("tree_sizes=") else line
        for line in before.split("\n")
    ]
    file.write_text("\n".join(lines) + trees + end + tail)
    return file


@pytest.mark.parametrize("objective", sorted(CASES))
def test_predictions_equal_lightgbm_called_directly(tmp_path: Path, objective: str) -> None:
    """Missing cells and categories included; one record or many; records for each leaf."""
    booster = _trained(objective)
    file = _saved(booster, tmp_path)
    model = LightGBMModel(file)
    records = verify(file)

    expected = np.asarray(booster.predict(FEATURES)).astype(np.float32)

    np.testing.assert_array_equal(model.predict(FEATURES), expected)
    np.testing.assert_array_equal(model.predict(FEATURES[:1]), expected[:1])
    assert model.predict(FEATURES[:0]).shape == expected[:0].shape
    assert (model.n_features, model.n_outputs) == (6, booster.num_model_per_iteration())
    assert model.objective == objective
    assert records.shape[1] == 6
    reached = np.asarray(booster.predict(records, pred_leaf=True)).reshape(len(records), -1)
    assert len(np.unique(reached[:, 0])) > 4


def test_absent_cell_is_zero(tmp_path: Path) -> None:
    """As in LightGBM's own prediction for a SciPy matrix."""
    booster = _trained("binary")
    model = LightGBMModel(_saved(booster, tmp_path))
    matrix = scipy.sparse.csr_matrix(np.nan_to_num(FEATURES))
    rows = SparseRows(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, 6
    )

    expected = np.asarray(booster.predict(matrix)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(rows), expected)
    np.testing.assert_array_equal(model.predict(np.nan_to_num(FEATURES)), expected)


@pytest.mark.parametrize(
    "parameters",
    [
        {"linear_tree": True},
        {"linear_tree": True, "min_data_in_leaf": 300},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"min_data_in_leaf": 300},
        {"monotone_constraints": [1, 0, 0, 0, 0, 0]},
    ],
    ids=str,
)
def test_other_kinds_of_trees_are_served(tmp_path: Path, parameters: dict[str, Any]) -> None:
    """Linear leaves, random forests, trees of one leaf."""
    booster = _trained("regression", **parameters)
    file = _saved(booster, tmp_path)

    verify(file)

    expected = np.asarray(booster.predict(FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(LightGBMModel(file).predict(FEATURES), expected)


def test_model_without_manifest_is_recognised_by_its_first_lines(tmp_path: Path) -> None:
    """Whatever its name; line ends of Windows are read as well."""
    assert not ALGORITHM.recognises(tmp_path)
    (tmp_path / "notes.txt").write_text("tree\nof life\n")
    assert not ALGORITHM.recognises(tmp_path)
    file = _saved(_trained("binary"), tmp_path)
    expected = LightGBMModel(file).predict(FEATURES)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    assert ALGORITHM.recognises(tmp_path)
    assert ALGORITHM.verify(tmp_path, None).shape[1] == 6
    model = ALGORITHM.load(tmp_path, None, ServingOptions())
    np.testing.assert_array_equal(model.predict(FEATURES), expected)


def test_several_models_are_not_guessed_at(tmp_path: Path) -> None:
    """Unless one has the name that a training job gives."""
    booster = _trained("binary")
    for name in ("a.txt", "b.txt"):
        _saved(booster, tmp_path, name)
    with pytest.raises(ModelLoadError, match="several LightGBM models"):
        ALGORITHM.load(tmp_path, None, ServingOptions())

    _saved(booster, tmp_path, "lightgbm-model.txt")

    ALGORITHM.load(tmp_path, None, ServingOptions())


@pytest.mark.parametrize(
    ("objective", "old", "new", "problem"),
    [
        ("binary", "split_feature=", "split_feature=6 ", "split_feature has .* elements"),
        ("binary", "\nsplit_feature=0", "\nsplit_feature=6", "feature index is out of range"),
        ("binary", "\nsplit_feature=0", "\nsplit_feature=-1", "feature index is out of range"),
        ("binary", "\nleft_child=1", "\nleft_child=2", "two parents"),
        ("binary", "\nleft_child=1", "\nleft_child=99", "child index is out of range"),
        ("binary", "\nleft_child=1", "\nleft_child=-99", "child index is out of range"),
        ("binary", "\nleft_child=1", "\nleft_child=1e9", "not whole numbers"),
        ("binary", "num_leaves=", "num_leaves=9", "elements, not"),
        ("binary", "num_leaves=", "num_leaves=-", "whole number"),
        ("binary", "\nnum_leaves=", "\nnum_leaves=2\nnum_leaves=", "num_leaves twice"),
        ("binary", "\nnum_leaves=", "\nnum_leaf=", "no line 'num_leaves'"),
        ("binary", "\nthreshold=", "\nthreshold=x", "not numbers"),
        ("binary", "num_class=1", "num_class=2", "num_tree_per_iteration 1"),
        ("binary", "num_class=1", "num_class=1\n=num_class=9", "header is not known"),
        ("binary", "max_feature_idx=5", "max_feature_idx=9", "feature_names has 6 elements"),
        ("binary", "objective=binary", "objective=multiclass num_class:3", "num_class of the obj"),
        ("binary", "objective=binary", "objective=binary :num_class:9", "name:number"),
        ("binary", "objective=binary", "objective=arson", "not one of LightGBM's"),
        ("multiclass", "num_class:3", "num_class:4", "num_class of the objective is 4"),
        ("multiclass", "\nTree=1", "\nTree=7", "tree 1 is not where"),
        ("linear", "\nleaf_const=", "\nleaf_const=1e400 ", "elements"),
        ("linear", "leaf_const=0.", "leaf_const=4e-320", "64-bit float does not hold"),
        ("linear", "\nnum_features=0", "\nnum_features=9", "more features than there are"),
        ("regression", "\nleaf_weight=", "\nleaf_weight=\nx=", "leaf_weight has 0 elements"),
        ("regression", "cat_boundaries=0", "cat_boundaries=9", "boundaries do not rise"),
        ("regression", "\nnum_cat=2", "\nnum_cat=0", "split by category has none"),
    ],
)
def test_text_that_would_crash_lightgbm_is_refused(
    tmp_path: Path, objective: str, old: str, new: str, problem: str
) -> None:
    """Indices out of range, circles, arrays of another length, outputs without room."""
    is_linear = objective == "linear"
    booster = _trained("regression", linear_tree=True) if is_linear else _trained(objective)
    file = _changed(_saved(booster, tmp_path), old, new)

    with pytest.raises(ModelLoadError, match=problem):
        verify(file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not begin"),
        (b"tree\nversion=v4\n", "end of trees"),
        (b"tree\nversion=v4\nnum_class=1\nend of trees\n", "no line 'label_index'"),
        (b"tree\nversion=v4\n\0end of trees\n", "byte 0"),
    ],
)
def test_part_of_a_model_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """A file that was cut, or is another one."""
    (tmp_path / "model.txt").write_bytes(content)

    with pytest.raises(ModelLoadError, match=problem):
        verify(tmp_path / "model.txt")


def test_sizes_that_are_not_those_of_the_trees_are_refused(tmp_path: Path) -> None:
    """LightGBM would jump there, and read beyond the end."""
    file = _saved(_trained("binary"), tmp_path)
    file.write_text(file.read_text().replace("tree_sizes=", "tree_sizes=9"))

    with pytest.raises(ModelLoadError, match="tree_sizes"):
        verify(file)


def test_tree_without_an_end_is_refused(tmp_path: Path) -> None:
    """LightGBM would look for the next `=` behind the end of the text."""
    file = _changed(_saved(_trained("binary"), tmp_path), "\nis_linear=", "\nend of trees\nx=")
    text = file.read_text()
    size = len(text.partition("\nTree=0")[2].partition("end of trees")[0]) + len("Tree=0")
    sizes = text.partition("\ntree_sizes=")[2].partition("\n")[0]
    file.write_text(text.replace(f"\ntree_sizes={sizes}", f"\ntree_sizes={size}"))

    with pytest.raises(ModelLoadError, match=r"tree 0 has lines .* no end"):
        verify(file)


def test_categories_of_pandas_are_refused(tmp_path: Path) -> None:
    """Their numbers are places in a list: those of a request would be taken for others."""
    file = _saved(_trained("binary"), tmp_path)
    text = file.read_text().replace("pandas_categorical:null", 'pandas_categorical:[["a", "b"]]')
    file.write_text(text)

    with pytest.raises(ModelLoadError, match="categories of a pandas frame"):
        verify(file)


def test_model_objects_of_user_code_are_adopted() -> None:
    """Boosters predict values, classifiers labels, as their own `predict` does."""
    booster = _trained("multiclass")
    classifier = lightgbm.LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1)
    classifier.fit(FEATURES, CLASSES)

    adopted = ALGORITHM.adopt(booster)
    of_classifier = ALGORITHM.adopt(classifier)

    assert adopted is not None
    assert (adopted.n_features, adopted.n_outputs, adopted.feature_names) == (6, 3, None)
    np.testing.assert_array_equal(adopted.predict(FEATURES), booster.predict(FEATURES))
    assert of_classifier is not None
    np.testing.assert_array_equal(of_classifier.predict(FEATURES), classifier.predict(FEATURES))
    assert ALGORITHM.adopt(FEATURES) is None


def test_outputs_are_selected_by_objective(tmp_path: Path) -> None:
    """NaN where the objective has no such output."""
    keys = ALGORITHM.output_keys
    found = {}
    for objective in ("binary", "multiclass", "regression"):
        model = LightGBMModel(_saved(_trained(objective), tmp_path))
        found[objective] = ALGORITHM.select(model, model.predict(FEATURES[:2]), keys)

    assert found["binary"]["probabilities"].shape == (2, 2)
    assert found["binary"]["labels"].tolist() == [[0, 1], [0, 1]]
    assert set(found["multiclass"]["predicted_label"]) <= {0, 1, 2}
    assert np.isnan(found["multiclass"]["predicted_score"]).all()
    assert np.isfinite(found["regression"]["predicted_score"]).all()
    assert np.isnan(found["regression"]["probability"]).all()
