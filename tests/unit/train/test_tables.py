"""Jobs of algorithms whose records are a table, or whose labels are classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from container.algorithms import registry
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities
from container.codecs.table.table import Examples, Table
from tests.unit.train.conftest import Tree
from train import job


class Means:
    """The mean label of each text in the first column."""

    def __init__(self, means: dict[str, float]) -> None:
        self._means = means

    def save(self, directory: Path) -> None:
        (directory / "means.json").write_text(json.dumps(self._means))

    def predict(self, records: Table) -> Any:
        return np.array([self._means.get(city, np.nan) for city in records.columns[0]])


class MeanByCity(Algorithm):
    name = "mean-by-city"
    records = "table"
    seen: dict[str, Examples]

    def fit(self, job: Any) -> Means:
        self.seen = {name: channel.read() for name, channel in job.tables.items()}
        examples = self.seen["train"]
        assert examples.labels is not None
        cities = examples.records.columns[0]
        return Means({city: examples.labels[cities == city].mean() for city in set(cities)})

    def load(self, directory: Path, manifest: Any, options: Any) -> Means:
        return Means(json.loads((directory / "means.json").read_text()))


@pytest.fixture
def algorithm(monkeypatch: pytest.MonkeyPatch, tree: Tree) -> MeanByCity:
    algorithm = MeanByCity()
    monkeypatch.setattr(registry, "get", lambda name: algorithm)
    tree.configure("hyperparameters.json", {})
    return algorithm


Feed = Callable[..., None]


@pytest.fixture
def feed(tree: Tree) -> Feed:
    """Lay out channels, all of one content type."""

    def feed(content_type: str | None = "text/csv", **channels: dict[str, bytes]) -> None:
        config: dict[str, object] = {"TrainingInputMode": "File"}
        if content_type is not None:
            config["ContentType"] = content_type
        tree.configure("inputdataconfig.json", dict.fromkeys(channels, config))
        for name, files in channels.items():
            tree.channel(name, files)

    return feed


def test_model_of_a_table_has_schema_and_example_in_its_manifest(
    tree: Tree, algorithm: MeanByCity, feed: Feed
) -> None:
    """A server learns from it which columns the model takes."""
    feed(train={"a.csv": b"10,Ulm,1\n20,Ulm,3\n", "b.csv": b"7,Bonn,4\n"})

    assert job.main(tree.environ) == 0

    described = json.loads((tree.root / "model" / "byoa-manifest.json").read_text())
    assert described["algorithm"] == "mean-by-city"
    assert [each["kind"] for each in described["model"]["records"]["columns"]] == ["text", "number"]
    assert described["model"]["example"] == ["Ulm", 3.0]
    assert json.loads((tree.root / "model" / "means.json").read_text()) == {"Ulm": 15, "Bonn": 7}


@pytest.mark.parametrize(
    ("content_type", "train", "validation"),
    [
        ("text/csv", b"1,12345,2\n2,,3\n", b"1,1x345,2\n"),
        (None, b"1,12345,2\n2,,3\n", b"1,1x345,2\n"),
        (
            "text/csv; header=present",
            b"price,zip,rooms\n1,12345,2\n2,,3\n",
            b"rooms,price,zip\n2,1,1x345\n",
        ),
        (
            "application/jsonlines",
            b'{"price":1,"zip":"12345","rooms":2}\n{"price":2,"zip":null,"rooms":3}\n',
            b'{"rooms":2,"price":1,"zip":"1x345"}\n',
        ),
        ("application/jsonlines", b'[1,"12345",2]\n[2,null,3]\n', b'[1,"1x345",2]\n'),
    ],
)
def test_column_is_text_in_all_channels_if_it_is_in_one(
    tree: Tree,
    algorithm: MeanByCity,
    monkeypatch: pytest.MonkeyPatch,
    feed: Feed,
    content_type: str | None,
    train: bytes,
    validation: bytes,
) -> None:
    """In every format, with columns matched by name where they have names."""
    monkeypatch.setattr(MeanByCity, "capabilities", Capabilities(takes_missing=True))
    feed(content_type, train={"a": train}, validation={"a": validation})

    assert job.main(tree.environ) == 0, tree.failure

    found = algorithm.seen["train"]
    assert [column.tolist() for column in found.records.columns] == [["12345", None], [2.0, 3.0]]
    assert found.labels is not None
    assert found.labels.tolist() == [1.0, 2.0]
    assert algorithm.seen["validation"].records.columns[0].tolist() == ["1x345"]
    assert found.records.names == (("zip", "rooms") if b"zip" in train else None)


@pytest.mark.parametrize(
    ("channels", "failure"),
    [
        ({"train": {"a": b"1,x\n,y\n"}}, "channel 'train', record 2: the label is missing"),
        ({"train": {"a": b"1,x,1\n1,,1\n"}}, "record 2, column 2: the value is missing, and the"),
        (
            {"train": {"a": b"1,x\n1,y,z\n"}},
            "'train', file 'a': line 2: the record has 3 cells",
        ),
        (
            {"train": {"a": b"1,x\n", "b": b"1\n"}},
            "'train', file 'b': 1 columns where others",
        ),
        ({"train": {"a": b"1\n"}}, "1 columns, of which the label takes 1: no features are left"),
        (
            {"train": {"a": b"1,x\n"}, "validation": {"a": b"1,x,2\n"}},
            "channel 'validation' has 3 columns where 'train' has 2",
        ),
    ],
)
def test_bad_table_fails_the_job_with_its_place(
    tree: Tree,
    algorithm: MeanByCity,
    feed: Feed,
    channels: dict[str, dict[str, bytes]],
    failure: str,
) -> None:
    """Channel, file, record and column (C-026)."""
    feed(**channels)

    assert job.main(tree.environ) == 1
    assert failure in tree.failure


def test_content_type_without_room_for_text_is_refused(
    tree: Tree, algorithm: MeanByCity, feed: Feed
) -> None:
    """Before a record is read."""
    feed("text/libsvm", train={"a": b"1 0:1\n"})

    assert job.main(tree.environ) == 1
    assert "'text/libsvm' is not supported; send one of: text/csv, application" in tree.failure


def test_model_that_cannot_predict_after_it_is_saved_fails_the_job(
    tree: Tree, algorithm: MeanByCity, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model with exit code 0 that a server would refuse."""
    feed(train={"a.csv": b"10,Ulm,1\n"})
    monkeypatch.setattr(Means, "predict", lambda self, records: np.zeros(5))

    assert job.main(tree.environ) == 1
    assert "the model that 'mean-by-city' saved cannot be used: PredictionError" in tree.failure
    assert tree.model_files == []


class MajorityClass(MeanByCity):
    """Text labels, records of numbers."""

    name = "majority"
    records = "numbers"
    labels = "classes"

    def fit(self, job: Any) -> Any:
        self.seen = {"train": job.tables["train"].read()}
        return Majority()

    def load(self, directory: Path, manifest: Any, options: Any) -> Any:
        return Majority()


class Majority:
    n_features = 2

    def save(self, directory: Path) -> None:
        (directory / "model").write_text("yes")

    def predict(self, features: Any) -> Any:
        return np.array(["yes"] * len(features))


def test_labels_that_are_text_with_records_of_numbers(
    tree: Tree, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model takes the fast formats: its manifest has no schema."""
    algorithm = MajorityClass()
    monkeypatch.setattr(registry, "get", lambda name: algorithm)
    tree.configure("hyperparameters.json", {})
    feed(train={"a.csv": b"yes,1,2\nno,3,5\n"})

    assert job.main(tree.environ) == 0, tree.failure

    assert algorithm.seen["train"].records.matrix().tolist() == [[1, 2], [3, 5]]
    described = json.loads((tree.root / "model" / "byoa-manifest.json").read_text())["model"]
    assert "records" not in described
    assert described["example"] == [2.0, 3.5]
    assert described["n_features"] == 2


class Streaming(Algorithm):
    """Numbers in batches, as XGBoost gets them."""

    name = "streaming"

    def fit(self, job: Any) -> Any:
        self.batches = list(job.channels["train"].batches())
        return Majority()

    def load(self, directory: Path, manifest: Any, options: Any) -> Any:
        return Majority()


def test_numbers_may_come_as_json_lines(
    tree: Tree, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A type that passes the check is one that can be read."""
    algorithm = Streaming()
    monkeypatch.setattr(registry, "get", lambda name: algorithm)
    tree.configure("hyperparameters.json", {})
    feed("application/jsonlines", train={"a.jsonl": b"[1, 2, 3]\n" * 3})

    assert job.main(tree.environ) == 0, tree.failure

    (batch,) = algorithm.batches
    assert batch.features.tolist() == [[2, 3]] * 3
    assert batch.labels is not None
    assert batch.labels.tolist() == [1] * 3
    described = json.loads((tree.root / "model" / "byoa-manifest.json").read_text())["model"]
    assert described["example"] == [2.0, 3.0]
