"""Serving's own binding against `xgboost` called directly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import xgboost

from container.algorithms.xgboost.serving.c_api import clean_message
from container.algorithms.xgboost.serving.model import XGBoostModel
from container.codecs.records import Floats, SparseRows
from container.errors import ModelLoadError, PredictionError

RANDOM = np.random.default_rng(7)
FEATURES = RANDOM.normal(size=(400, 6)).astype(np.float32)
FEATURES[RANDOM.random(FEATURES.shape) < 0.1] = np.nan
TARGET = np.nan_to_num(FEATURES[:, 0]) + np.nan_to_num(FEATURES[:, 1] * FEATURES[:, 2])
LABELS: dict[str, Floats] = {
    "reg:squarederror": TARGET,
    "binary:logistic": (TARGET > 0).astype(np.float32),
    "binary:hinge": (TARGET > 0).astype(np.float32),
    "multi:softprob": np.digitize(TARGET, [-0.5, 0.5]).astype(np.float32),
    "multi:softmax": np.digitize(TARGET, [-0.5, 0.5]).astype(np.float32),
    "count:poisson": np.round(np.abs(TARGET)),
    "rank:pairwise": (TARGET > 0).astype(np.float32),
}


def _booster(objective: str, **parameters: Any) -> xgboost.Booster:
    given = {"objective": objective, "nthread": 1, "seed": 1} | parameters
    if objective.startswith("multi:"):
        given["num_class"] = 3
    return xgboost.train(given, xgboost.DMatrix(FEATURES, LABELS[objective]), 12)


def _saved(booster: xgboost.Booster, directory: Path, name: str = "model.ubj") -> Path:
    booster.save_model(directory / name)
    return directory / name


@pytest.mark.parametrize("suffix", ["ubj", "json"])
@pytest.mark.parametrize("objective", sorted(LABELS))
def test_predictions_equal_xgboost_called_directly(
    tmp_path: Path, objective: str, suffix: str
) -> None:
    """Every kind of output, in both formats, missing cells included."""
    booster = _booster(objective)
    model = XGBoostModel(_saved(booster, tmp_path, f"model.{suffix}"))

    np.testing.assert_array_equal(
        model.predict(FEATURES), booster.predict(xgboost.DMatrix(FEATURES))
    )
    assert model.n_features == 6
    assert model.objective == objective


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:.*not used")
@pytest.mark.parametrize("booster_kind", ["dart", "gblinear"])
def test_other_boosters_predict_as_xgboost_does(tmp_path: Path, booster_kind: str) -> None:
    """The linear booster takes the way over a DMatrix."""
    booster = _booster("binary:logistic", booster=booster_kind)
    model = XGBoostModel(_saved(booster, tmp_path))

    np.testing.assert_allclose(
        model.predict(FEATURES), booster.predict(xgboost.DMatrix(FEATURES)), atol=1e-6
    )


def test_sparse_records_equal_dense_ones(tmp_path: Path) -> None:
    """A cell that is not stored is missing, also in the last columns."""
    model = XGBoostModel(_saved(_booster("binary:logistic"), tmp_path))
    kept = ~np.isnan(FEATURES)
    kept[:, 4:] = False
    rows = scipy.sparse.csr_matrix(
        (FEATURES[kept], np.nonzero(kept)[1], np.concatenate([[0], kept.sum(axis=1).cumsum()])),
        shape=FEATURES.shape,
    )

    sparse = model.predict(
        SparseRows(
            offsets=rows.indptr.astype(np.int64),
            columns=rows.indices.astype(np.int32),
            values=rows.data,
            n_columns=4,
        )
    )

    np.testing.assert_array_equal(sparse, model.predict(np.where(kept, FEATURES, np.nan)))


def test_early_stopped_model_predicts_with_its_best_iteration(tmp_path: Path) -> None:
    """A file of AWS's image holds all trees and says which round was best."""
    booster = _booster("binary:logistic")
    booster.set_attr(best_iteration="3")
    best = booster.predict(xgboost.DMatrix(FEATURES), iteration_range=(0, 4))
    every = booster.predict(xgboost.DMatrix(FEATURES))

    predicted = XGBoostModel(_saved(booster, tmp_path)).predict(FEATURES)

    np.testing.assert_array_equal(predicted, best)
    assert not np.allclose(best, every)


def _forest_without_its_size(directory: Path, **attributes: str) -> tuple[Path, xgboost.Booster]:
    """Two rounds of three trees, saved as XGBoost 1.5 does: without `num_parallel_tree`."""
    given = {"objective": "binary:logistic", "num_parallel_tree": 3, "subsample": 0.5, "nthread": 1}
    data = xgboost.DMatrix(FEATURES, LABELS["binary:logistic"])
    booster = xgboost.train(given, data, 4)
    booster.set_attr(**attributes)
    document = json.loads(booster.save_raw("json"))
    model = document["learner"]["gradient_booster"]["model"]
    del model["gbtree_model_param"]["num_parallel_tree"], model["iteration_indptr"]
    document["version"] = [1, 5, 2]
    file = directory / "xgboost-model"
    file.write_text(json.dumps(document))
    return file, booster


@pytest.mark.filterwarnings("ignore:.*saved before XGBoost 1.6")
def test_forest_of_xgboost_1_5_predicts_with_all_trees_of_its_best_rounds(tmp_path: Path) -> None:
    """The file says 6 trees; `best_iteration` alone would be 2 of them."""
    file, booster = _forest_without_its_size(tmp_path, best_iteration="1", best_ntree_limit="6")

    predicted = XGBoostModel(file).predict(FEATURES)

    np.testing.assert_array_equal(
        predicted, booster.predict(xgboost.DMatrix(FEATURES), iteration_range=(0, 2))
    )


def test_forest_that_knows_its_size_counts_rounds(tmp_path: Path) -> None:
    """XGBoost 1.6 and 1.7 store both numbers, and the trees of a round."""
    _, booster = _forest_without_its_size(tmp_path, best_iteration="1", best_ntree_limit="6")

    predicted = XGBoostModel(_saved(booster, tmp_path)).predict(FEATURES)

    np.testing.assert_array_equal(
        predicted, booster.predict(xgboost.DMatrix(FEATURES), iteration_range=(0, 2))
    )


def test_number_of_trees_that_later_training_left_behind_is_passed_over(tmp_path: Path) -> None:
    """XGBoost 2 and later update `best_iteration` only."""
    booster = _booster("binary:logistic")
    booster.set_attr(best_iteration="4", best_ntree_limit="2")

    predicted = XGBoostModel(_saved(booster, tmp_path)).predict(FEATURES)

    np.testing.assert_array_equal(
        predicted, booster.predict(xgboost.DMatrix(FEATURES), iteration_range=(0, 5))
    )


def test_predictions_do_not_share_the_library_buffer(tmp_path: Path) -> None:
    """The caller owns the returned array."""
    model = XGBoostModel(_saved(_booster("binary:logistic"), tmp_path))
    first = model.predict(FEATURES[:3])
    before = first.copy()

    model.predict(FEATURES[3:6])

    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"binf\x00\x00", "damaged or not a model in XGBoost's binary format"),
        (b"\x80\x04\x95", "is not a pickled booster"),
        (b"PK\x03\x04", "does not begin with a brace"),
        (b'{"learner": 1}', "cannot be loaded"),
        (b"{", "cannot be loaded"),
    ],
)
def test_file_that_is_no_model_says_what_to_do(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Refuses a file that is empty, damaged, or another library's JSON."""
    file = tmp_path / "xgboost-model"
    file.write_bytes(content)

    with pytest.raises(ModelLoadError, match=message) as caught:
        XGBoostModel(file)

    assert "/workspace" not in caught.value.message
    assert "Stack trace" not in caught.value.message


def test_wrong_width_is_a_prediction_error(tmp_path: Path) -> None:
    """The library's own check is the last line of defence."""
    model = XGBoostModel(_saved(_booster("binary:logistic"), tmp_path))

    with pytest.raises(PredictionError, match="cannot predict"):
        model.predict(FEATURES[:, :3].copy())


@pytest.mark.parametrize("attribute", ["12", "9999", "-5", "abc", "1e3"])
def test_best_iteration_that_is_not_there_is_refused(tmp_path: Path, attribute: str) -> None:
    """C-061: XGBoost would read memory that is not its own."""
    booster = _booster("binary:logistic")
    booster.set_attr(best_iteration=attribute)

    with pytest.raises(ModelLoadError, match="best_iteration"):
        XGBoostModel(_saved(booster, tmp_path))


def test_library_messages_lose_their_source_paths() -> None:
    """Has no path of the build machine and no stack trace."""
    text = (
        "[01:19:49] /workspace/src/tree/tree_updater.cc:20: Unknown tree updater grow_skmaker\n"
        "Stack trace:\n  [bt] (0) /x/libxgboost.so(+0x6e) [0x7fcef111cfae]\n"
    )

    assert clean_message(text) == "Unknown tree updater grow_skmaker"
    assert clean_message("Invalid Input: 'x'") == "Invalid Input: 'x'"
    nested = "[1:2:3] /workspace/src/a.cc:1: [1:2:3] /workspace/src/b.cc:2: no /x/y/m.ubj"
    assert clean_message(nested) == "[1:2:3] …/b.cc:2: no …/m.ubj"


@pytest.mark.parametrize("is_sparse", [False, True])
def test_large_prediction_is_made_in_blocks_of_the_same_values(
    tmp_path: Path, is_sparse: bool
) -> None:
    """XGBoost keeps a buffer as large as the largest prediction for every thread."""
    booster = _booster("multi:softprob")
    model = XGBoostModel(_saved(booster, tmp_path))
    n_rows = 2**15 // 3 + 1000
    features = np.resize(FEATURES, (n_rows, 6))
    given: Any = features
    if is_sparse:
        matrix = scipy.sparse.csr_matrix(np.nan_to_num(features))
        given = SparseRows(
            matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32), 6
        )
        features = np.where(np.nan_to_num(features) == 0, np.nan, features)

    assert model.n_outputs == 3
    np.testing.assert_array_equal(model.predict(given), booster.predict(xgboost.DMatrix(features)))
