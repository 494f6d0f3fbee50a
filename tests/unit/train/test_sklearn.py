"""The algorithms of scikit-learn: from a job to a served model, equal to scikit-learn itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import ensemble, linear_model, neighbors
from sklearn.preprocessing import StandardScaler

from container.settings import Settings
from serve import loading
from serve.invocation import Invocation, ModelServable
from tests.unit.train.conftest import Tree, as_csv
from train import job

N_TRAIN = 300
Train = Callable[..., int]


@pytest.fixture
def train(tree: Tree) -> Train:
    def train(algorithm: str, body: bytes, content_type: str = "text/csv", **options: str) -> int:
        tree.configure("hyperparameters.json", {"algorithm": algorithm} | options)
        config = {"TrainingInputMode": "File", "ContentType": content_type}
        tree.configure("inputdataconfig.json", {"train": config})
        tree.channel("train", {"a.csv": body})
        return job.main(tree.environ)

    return train


def served(tree: Tree) -> ModelServable:
    artifact = loading.inspect(tree.root / "model", Settings())
    servable = artifact.load()
    assert isinstance(servable, ModelServable)
    return servable


def answers(tree: Tree, rows: np.ndarray, accept: str = "application/json") -> list[Any]:
    answer = served(tree).invoke(Invocation(as_csv(rows), "text/csv", accept))
    assert isinstance(answer.body, bytes)
    return list(json.loads(answer.body)["predictions"])


def as_named_classes(rows: np.ndarray, names: list[str]) -> bytes:
    lines = as_csv(rows[:, 1:]).splitlines()
    pairs = zip(rows[:, 0], lines, strict=True)
    return b"".join(b'"%s",' % names[int(label)].encode() + line + b"\n" for label, line in pairs)


@pytest.mark.parametrize(
    ("algorithm", "reference", "options"),
    [
        ("sklearn-forest", ensemble.RandomForestClassifier, {"n_estimators": "10"}),
        ("sklearn-boosting", ensemble.HistGradientBoostingClassifier, {"max_iter": "10"}),
        ("sklearn-neighbors", neighbors.KNeighborsClassifier, {"n_neighbors": "3"}),
        ("sklearn-linear", linear_model.LogisticRegression, {"alpha": "1"}),
    ],
)
@pytest.mark.parametrize("names", [None, ["benign", "it, is"]], ids=["numbers", "text"])
def test_classifier_answers_as_scikit_learn_does(
    tree: Tree,
    train: Train,
    records: np.ndarray,
    algorithm: str,
    reference: Any,
    options: dict[str, str],
    names: list[str] | None,
) -> None:
    """Score and label, with classes that are numbers or text."""
    rows, others = records[:N_TRAIN], records[N_TRAIN:, 1:]
    body = as_csv(rows) if names is None else as_named_classes(rows, names)

    assert train(algorithm, body, task="classification", **options) == 0, tree.failure

    features, unseen = rows[:, 1:].astype(np.float32), others.astype(np.float32)
    given = {} if algorithm == "sklearn-linear" else {k: int(v) for k, v in options.items()}
    if algorithm in ("sklearn-forest", "sklearn-boosting"):
        given["random_state"] = 0
    if algorithm == "sklearn-linear":
        scaler = StandardScaler().fit(features.astype(np.float64))
        features, unseen = scaler.transform(features), scaler.transform(unseen)
        given["max_iter"] = 1000
    expected = reference(**given).fit(features, rows[:, 0]).predict_proba(unseen)
    found = answers(tree, others)
    scores = np.array([each["score"] for each in found])
    np.testing.assert_allclose(scores, expected[:, 1], atol=1e-5)
    wanted = expected.argmax(axis=1)
    labels = [each["predicted_label"] for each in found]
    assert labels == (wanted.tolist() if names is None else [names[each] for each in wanted])


@pytest.mark.parametrize(
    ("algorithm", "options", "reference"),
    [
        ("sklearn-linear", {}, linear_model.LinearRegression()),
        ("sklearn-linear", {"loss": "absolute"}, linear_model.QuantileRegressor(alpha=0)),
        (
            "sklearn-forest",
            {"n_estimators": "10"},
            ensemble.RandomForestRegressor(10, random_state=0),
        ),
        (
            "sklearn-boosting",
            {"max_iter": "10"},
            ensemble.HistGradientBoostingRegressor(max_iter=10, random_state=0),
        ),
        ("sklearn-neighbors", {}, neighbors.KNeighborsRegressor()),
    ],
)
def test_regression_answers_as_scikit_learn_does(
    tree: Tree,
    train: Train,
    records: np.ndarray,
    algorithm: str,
    options: dict[str, str],
    reference: Any,
) -> None:
    """One score a record."""
    rows = np.column_stack([records[:, 1] * 3 - records[:, 2], records[:, 1:6]])

    assert train(algorithm, as_csv(rows[:N_TRAIN]), **options) == 0, tree.failure

    written = as_csv(rows).decode()  # nine digits: as training has read them
    exact = np.array([line.split(",") for line in written.splitlines()], dtype=np.float64)
    features = exact[:, 1:].astype(np.float32)
    reference.fit(features[:N_TRAIN], exact[:N_TRAIN, 0])
    expected = reference.predict(features[N_TRAIN:])
    found = [each["score"] for each in answers(tree, rows[N_TRAIN:, 1:])]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_several_classes_have_a_score_each(tree: Tree, train: Train) -> None:
    """As AWS's linear learner answers."""
    rows = np.array([[0, 1.0, 0], [1, 0, 1], [2, 5, 5]] * 10)

    assert train("sklearn-linear", as_csv(rows), task="classification", alpha="0.1") == 0

    (found,) = answers(tree, np.array([[5.0, 5.0]]))
    assert found["predicted_label"] == 2
    assert len(found["score"]) == 3
    assert sum(found["score"]) == pytest.approx(1)


def test_isolation_forest_scores_what_is_strange_higher(tree: Tree, train: Train) -> None:
    """Without labels."""
    rows = np.random.default_rng(0).normal(size=(200, 3))

    assert train("sklearn-isolation", as_csv(rows)) == 0, tree.failure

    usual, strange = answers(tree, np.array([[0.0, 0, 0], [9, 9, 9]]))
    assert strange["score"] > usual["score"] + 0.2


HOUSES = b"price,city,area,floor\n100,Ulm,50,1\n200,Bonn,70,\n300,Ulm,90,3\n"


def test_preprocessor_answers_with_rows_of_numbers(tree: Tree, train: Train) -> None:
    """Gaps filled, numbers scaled, categories in columns; an unknown one is in none."""
    assert train("sklearn-preprocessor", HOUSES, "text/csv; header=present") == 0, tree.failure

    servable = served(tree)
    body = b"city,area,floor\nUlm,70,2\nRome,,\n,90,1\n"
    answer = servable.invoke(Invocation(body, "text/csv; header=present", "text/csv"))
    assert isinstance(answer.body, bytes)
    found = np.array([line.split(b",") for line in answer.body.splitlines()], dtype=float)
    high = 20 / np.std([50, 70, 90])
    floor = 1 / np.std([1, 2, 3])
    expected = [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, high, -floor]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    stored = json.loads((tree.root / "model" / "preprocessor.json").read_text())
    assert stored["features"] == ["city=Bonn", "city=Ulm", "area", "floor"]


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "expected"),
    [
        (b"7,Ulm,70,2\n", "text/csv", "text/csv", b"7.0,0.0,1.0,0.0,0.0\n"),
        (b"7,Ulm,70,2\n", "text/csv; label_size=1", "text/csv", b"7.0,0.0,1.0,0.0,0.0\n"),
        (b'"a,b",Ulm,70,2\n', "text/csv", "text/csv", b'"a,b",0.0,1.0,0.0,0.0\n'),
        (
            b'["yes","Ulm",70,2]',
            "application/json",
            "application/json",
            b'{"predictions":[{"score":["yes",0.0,1.0,0.0,0.0]}]}',
        ),
    ],
)
def test_label_passes_through_a_preprocessor(
    tree: Tree, train: Train, body: bytes, content_type: str, accept: str, expected: bytes
) -> None:
    """First, as the next container of a training pipeline reads it."""
    assert train("sklearn-preprocessor", HOUSES, "text/csv; header=present") == 0, tree.failure

    answer = served(tree).invoke(Invocation(body, content_type, accept))

    assert answer.body == expected


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        ({"categorical": "town"}, "categorical names 'town'; accepted are names of columns"),
        ({"categorical": "3"}, "indices from 0 to 2"),
        ({"max_categories": "2", "categorical": "area"}, "column 2 ('area') has 3 categories"),
    ],
)
def test_preprocessor_refuses_options_that_do_not_fit(
    tree: Tree, train: Train, options: dict[str, str], failure: str
) -> None:
    """With what would be accepted."""
    assert train("sklearn-preprocessor", HOUSES, "text/csv; header=present", **options) == 1
    assert failure in tree.failure


@pytest.mark.parametrize(
    ("algorithm", "body", "options", "failure"),
    [
        ("sklearn-linear", b"a,1\nb,2\n", {"task": "regression"}, "the labels are text"),
        ("sklearn-linear", b"a,1\na,2\n", {}, "all labels are the same class"),
        ("sklearn-forest", b"1,x\n2,y\n", {}, "column 1 is text, and only numbers are accepted"),
        ("sklearn-forest", b"1,1\n2,\n", {}, "record 2, column 2: the value is missing"),
        ("sklearn-forest", b"1,1\n2,2\n", {"n_estimators": "0"}, "n_estimators"),
        ("sklearn-neighbors", b"1,1\n2,2\n", {"metric": "cosine"}, "metric"),
        ("sklearn-isolation", b"1,\n2,2\n", {}, "a value is missing"),
    ],
)
def test_bad_job_fails_with_its_reason(
    tree: Tree,
    train: Train,
    algorithm: str,
    body: bytes,
    options: dict[str, str],
    failure: str,
) -> None:
    """Before anything is saved (C-026)."""
    assert train(algorithm, body, **options) == 1
    assert failure in tree.failure
    assert tree.model_files == []


def test_skops_file_with_another_type_is_refused(tree: Tree, train: Train, tmp_path: Path) -> None:
    """A type that is not listed is never imported for it."""
    import skops.io

    from container.algorithms.sklearn import skops_file
    from container.errors import ModelLoadError

    for content in (b"", b"PK\x05\x06" + b"\0" * 18, b"x" * 100):
        (tmp_path / skops_file.FILE).write_bytes(content)
        with pytest.raises(ModelLoadError, match=r"model\.skops is no skops file"):
            skops_file.load(tmp_path)
    skops.io.dump(Settings(), tmp_path / skops_file.FILE)
    with pytest.raises(ModelLoadError, match=r"types that are not loaded: .*container\.settings"):
        skops_file.load(tmp_path)
    skops.io.dump({"a": 1}, tmp_path / skops_file.FILE)
    from container.algorithms.sklearn.fitted_models import EstimatorModel

    with pytest.raises(ModelLoadError, match="holds a dict, no fitted estimator"):
        EstimatorModel.load(tmp_path)
