"""Names of columns from the training data to the answers of the served model (C-103)."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.invocation import Invocation, ModelServable
from tests.unit.train.conftest import Tree, as_csv
from train import job

NAMES = ["age", "income <k>", "debt [k]"]  # no matrix of XGBoost's may have the last two
HEADER = ["bought", *NAMES]


def as_table(rows: np.ndarray, names: Sequence[str]) -> bytes:
    """Records as a Parquet file, its columns called `HEADER` and in the order of `names`."""
    file = io.BytesIO()
    pq.write_table(pa.table({name: rows[:, HEADER.index(name)] for name in names}), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Label first; float64 [300, 4]. The label depends on the order of the features."""
    features = np.random.default_rng(0).random((300, 3))
    return np.column_stack([features[:, 0] + 2 * features[:, 1] > 1.5, features])


@pytest.fixture
def bank(tree: Tree, rows: np.ndarray) -> Tree:
    """A job whose files have their columns in different orders."""
    tree.hyperparameters(objective="binary:logistic")
    orders = [HEADER, HEADER[::-1]]
    parts = {f"part-{i}": as_table(rows[i::3], names) for i, names in enumerate(orders)}
    tree.channel("train", parts)
    tree.channel("validation", {"part-0": as_table(rows[2::3], [*NAMES, "bought"])})
    return tree


def serve(tree: Tree) -> ModelServable:
    loadable = loading.inspect(tree.root / "model", Settings.from_env(tree.environ))
    servable = loadable.load()
    assert isinstance(servable, ModelServable)
    return servable


def scores(servable: ModelServable, body: bytes, content_type: str) -> np.ndarray:
    answer = servable.invoke(Invocation(body, content_type, "text/csv"))
    assert isinstance(answer.body, bytes)
    return np.array(answer.body.split(), dtype=np.float32)


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        {"early_stopping_rounds": "1", "eval_metric": "auc", "num_round": "30"},
        {"booster": "gblinear"},
        {"_kfold": "3"},
    ],
    ids=["plain", "stopped", "linear", "folds"],
)
def test_names_are_in_the_manifest_the_model_and_the_importances(
    bank: Tree, hyperparameters: dict[str, str]
) -> None:
    bank.hyperparameters(**{"objective": "binary:logistic"} | hyperparameters)

    assert job.main(bank.environ) == 0, bank.failure

    model = bank.root / "model"
    assert json.loads((model / "byoa-manifest.json").read_text())["model"]["feature_names"] == NAMES
    for file in model.glob("xgboost-model*"):
        assert xgboost.Booster(model_file=bytearray(file.read_bytes())).feature_names == NAMES
    importances = json.loads(
        (bank.root / "output" / "data" / "feature_importances.json").read_text()
    )
    assert {*importances["weight"]} <= {*NAMES}
    assert "income <k>" in importances["weight"]


def test_model_of_named_columns_is_that_of_the_same_rows_of_text(
    bank: Tree, rows: np.ndarray
) -> None:
    """But for the names."""
    assert job.main(bank.environ) == 0, bank.failure
    named = xgboost.Booster(
        model_file=bytearray((bank.root / "model" / "xgboost-model").read_bytes())
    )
    for channel, parts in {"train": [rows[0::3], rows[1::3]], "validation": [rows[2::3]]}.items():
        bank.channel(channel, {f"part-{i}": as_csv(part) for i, part in enumerate(parts)})

    assert job.main(bank.environ) == 0, bank.failure

    named.feature_names = None
    text = (bank.root / "model" / "xgboost-model").read_bytes()
    assert named.save_raw(raw_format="ubj") == text


def test_job_is_resumed_with_its_names(bank: Tree, rows: np.ndarray) -> None:
    """To the same bytes as without an interruption."""
    (bank.root / "checkpoints").mkdir()
    bank.configure("checkpointconfig.json", {"LocalPath": str(bank.root / "checkpoints")})
    environ = bank.environ | {"BYOA_CHECKPOINT_SECONDS": "0"}
    model = bank.root / "model" / "xgboost-model"
    bank.hyperparameters(objective="binary:logistic", num_round="4")
    assert job.main(environ) == 0, bank.failure
    expected = model.read_bytes()
    (bank.root / "checkpoints" / "checkpoint-00000004").unlink()

    assert job.main(environ) == 0, bank.failure

    assert model.read_bytes() == expected


@pytest.mark.parametrize("num_round", ["7", "2"])
def test_resuming_with_other_columns_of_a_pipe_is_refused(
    bank: Tree, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch, num_round: str
) -> None:
    """Compares names if the fingerprint of the data is unknown, also of a shortened model."""
    monkeypatch.setattr("train.input.fingerprint.of_channel", lambda _: "")  # as in Pipe mode
    (bank.root / "checkpoints").mkdir()
    bank.configure("checkpointconfig.json", {"LocalPath": str(bank.root / "checkpoints")})
    environ = bank.environ | {"BYOA_CHECKPOINT_SECONDS": "0"}
    bank.hyperparameters(objective="binary:logistic", num_round="6")
    assert job.main(environ) == 0, bank.failure
    bank.hyperparameters(objective="binary:logistic", num_round=num_round)
    bank.channel("train", {"part-0": as_table(rows, ["bought", *NAMES[::-1]])})

    assert job.main(environ) == 1

    assert "has other feature columns than the checkpoint, or has them in another" in bank.failure
    assert "empty the checkpoint directory" in bank.failure


def test_model_whose_names_do_not_fit_is_refused(tree: Tree, rows: np.ndarray) -> None:
    """The file is damaged: no request could be matched with it."""
    model = tree.root / "model"
    model.mkdir()
    booster = xgboost.train({}, xgboost.DMatrix(rows[:, 1:3], rows[:, 0]), 1)
    booster.feature_names = ["age", "age"]
    booster.save_model(model / "xgboost-model.json")

    with pytest.raises(ModelLoadError, match="1 name for 2 features"):
        serve(tree)


@pytest.mark.parametrize("second", [["income", "age"], None])
def test_ensemble_needs_the_same_names(
    tree: Tree, rows: np.ndarray, second: list[str] | None
) -> None:
    """All its models are given the same array."""
    model = tree.root / "model"
    model.mkdir()
    for number, names in enumerate([["age", "income"], second]):
        matrix = xgboost.DMatrix(rows[:, 1:3], rows[:, 0], feature_names=names)
        xgboost.train({}, matrix, 1).save_model(model / f"model-{number}.json")

    if second is None:
        assert scores(serve(tree), as_csv(rows[:, 1:3]), "text/csv").shape == (300,)
    else:
        with pytest.raises(ModelLoadError, match="of some are 'age', 'income' and of others 'inc"):
            serve(tree)
