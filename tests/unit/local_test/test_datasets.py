import json
import sys
from pathlib import Path

import pytest

import local_test
from local_test.datasets import DatasetError, breast_cancer, write_breast_cancer
from local_test.ml_tree import MlTree


def test_breast_cancer_is_split_the_same_way_every_time() -> None:
    """569 rows: a fifth validates, no row is in both parts, and a second call gives the same."""
    dataset = breast_cancer()

    train, validation = dataset.train.splitlines(), dataset.validation.splitlines()
    assert (len(train), len(validation)) == (455, 114)
    assert not set(train) & set(validation)
    assert dataset == breast_cancer()


def test_breast_cancer_has_the_label_first_and_no_header() -> None:
    """SageMaker's CSV convention. Published: 212 rows are malignant, 357 benign."""
    dataset = breast_cancer()

    rows = [line.split(b",") for line in (dataset.train + dataset.validation).splitlines()]
    assert {len(row) for row in rows} == {31}
    assert [row[0] for row in rows].count(b"0") == 212
    assert [row[0] for row in rows].count(b"1") == 357


def test_payload_is_validation_without_its_labels() -> None:
    """Row by row, so that predictions can be compared with the labels."""
    dataset = breast_cancer()

    joined = zip(dataset.validation_labels, dataset.payload.splitlines(), strict=True)
    assert [b"%d,%s" % pair for pair in joined] == dataset.validation.splitlines()


def test_written_tree_has_both_channels_and_string_hyperparameters(tmp_path: Path) -> None:
    """The tree is complete: an image can train on it as it is."""
    ml = MlTree(tmp_path)

    dataset = write_breast_cancer(ml)

    assert (ml.channel_dir("train") / "train.csv").read_bytes() == dataset.train
    channels = json.loads(ml.input_data_config_file.read_text())
    assert {name: channels[name]["ContentType"] for name in channels} == {
        "train": "text/csv",
        "validation": "text/csv",
    }
    assert json.loads(ml.hyperparameters_file.read_text())["num_round"] == "50"


def test_missing_scikit_learn_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(DatasetError, match="run `make venv`"):
        breast_cancer()


def test_committed_payload_holds_rows_of_the_data_set() -> None:
    """payload.csv beside predict.sh is real data that the trained model has not seen."""
    committed = (Path(local_test.__file__).parent / "payload.csv").read_bytes().splitlines()

    assert committed == breast_cancer().payload.splitlines()[:5]
