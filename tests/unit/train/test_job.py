"""The training verb in process, on real records."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import xgboost

from container import manifest
from container.algorithms.serving_contract import ServingOptions
from container.algorithms.xgboost.algorithm import ALGORITHM
from container.manifest import MANIFEST_FILE, ModelManifest
from tests.unit.train.conftest import Tree, as_csv, as_libsvm
from train import job


def _gzip(content: bytes) -> bytes:
    """The same bytes in every process: pytest's workers must agree on the names of the tests."""
    return gzip.compress(content, mtime=0)


def _booster(tree: Tree) -> xgboost.Booster:
    return xgboost.Booster(
        model_file=bytearray((tree.root / "model" / "xgboost-model").read_bytes())
    )


def test_job_leaves_the_model_that_xgboost_trains_directly(
    cancer: Tree, records: np.ndarray
) -> None:
    """Same parameters, same records, same predictions, bit for bit (C-026, C-097)."""
    code = job.main(cancer.environ)

    rows = records.astype(np.float32)
    expected = xgboost.train(
        {"objective": "binary:logistic"}, xgboost.DMatrix(rows[:400, 1:], rows[:400, 0]), 3
    )
    held_out = xgboost.DMatrix(rows[400:, 1:])
    assert code == 0
    assert cancer.failure == ""
    assert cancer.model_files == [MANIFEST_FILE, "xgboost-model"]
    np.testing.assert_array_equal(_booster(cancer).predict(held_out), expected.predict(held_out))


def test_job_writes_a_manifest_of_what_it_made(cancer: Tree) -> None:
    """The server will know the algorithm, the width and the objective."""
    job.main(cancer.environ)

    text = (cancer.root / "model" / MANIFEST_FILE).read_text()
    written = ModelManifest.model_validate_json(text)
    assert written.algorithm == "xgboost"
    assert written.model.n_features == 30
    assert written.model.n_outputs == 1
    assert written.model.objective == "binary:logistic"
    assert list(written.files) == ["xgboost-model"]


def test_job_twice_gives_the_same_bytes(cancer: Tree) -> None:
    """Same seed, same data, same files."""
    job.main(cancer.environ)
    first = {path.name: path.read_bytes() for path in (cancer.root / "model").iterdir()}

    job.main(cancer.environ)

    assert {path.name: path.read_bytes() for path in (cancer.root / "model").iterdir()} == first


def test_job_metric_lines_match_the_published_expressions(
    cancer: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """CloudWatch shows a tab as #011 and the expressions expect it (C-034, C-100)."""
    job.main(cancer.environ)

    log = capsys.readouterr().out.replace("\t", "#011")
    for channel in ("train", "validation"):
        values = re.findall(rf".*\[[0-9]+\].*#011{channel}-logloss:(\S+)", log)
        assert len(values) == 3
        assert float(values[0].partition("#")[0]) > float(values[-1].partition("#")[0]) > 0


def test_job_early_stopping_keeps_the_best_rounds(cancer: Tree, records: np.ndarray) -> None:
    """The model file predicts with the best iteration, with or without asking for it."""
    cancer.hyperparameters(
        num_round="200", objective="binary:logistic", early_stopping_rounds="5", eta="0.9"
    )

    assert job.main(cancer.environ) == 0

    booster = _booster(cancer)
    written = json.loads((cancer.root / "model" / MANIFEST_FILE).read_text())
    assert booster.num_boosted_rounds() == written["model"]["best_iteration"] + 1 < 200


def test_job_reads_every_file_of_a_channel(tree: Tree, records: np.ndarray) -> None:
    """Nested, linked, compressed, oddly named; what is foreign is passed over (C-016)."""
    tree.hyperparameters()
    parts = [as_csv(part) for part in np.array_split(records, 5)]
    directory = tree.channel(
        "train",
        {
            "a.csv": parts[0],
            "deep/er/and/deeper/b.csv": parts[1],
            "name with\nnewline é.csv": parts[2],
            "c.csv.gz": gzip.compress(parts[3]),
            "_SUCCESS": b"",
            ".DS_Store": b"\x00\x01",
            "_temporary/0/part": b"not,numbers\n",
            "empty.csv": b"",
        },
    )
    elsewhere = tree.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.csv").write_bytes(parts[4])
    os.symlink(elsewhere, directory / "linked")
    os.symlink(directory, directory / "loop")

    assert job.main(tree.environ) == 0, tree.failure

    whole = Tree(tree.root / "whole")
    whole.hyperparameters()
    whole.channel("train", {"all.csv": b"".join(parts)})
    job.main(whole.environ)
    rows = xgboost.DMatrix(records[:, 1:])
    np.testing.assert_allclose(
        _booster(tree).predict(rows), _booster(whole).predict(rows), atol=1e-5
    )


def test_job_reads_libsvm_by_declaration_and_by_recognition(
    tree: Tree, records: np.ndarray
) -> None:
    """The content type is the channel's, else the first line tells."""
    tree.hyperparameters()
    tree.channel("train", {"data": as_libsvm(records)})

    assert job.main(tree.environ) == 0, tree.failure
    recognised = (tree.root / "model" / "xgboost-model").read_bytes()
    tree.configure("inputdataconfig.json", {"train": {"ContentType": "text/x-libsvm"}})
    assert job.main(tree.environ) == 0, tree.failure

    assert (tree.root / "model" / "xgboost-model").read_bytes() == recognised
    assert _booster(tree).num_features() == 30


def test_job_uses_weights_where_the_job_says_so(tree: Tree, records: np.ndarray) -> None:
    """csv_weights=1: column 1 is a weight and not a feature."""
    weights = np.random.default_rng(3).uniform(0.1, 3, len(records)).astype(np.float32)
    rows = np.column_stack([records[:, 0], weights, records[:, 1:]])
    tree.hyperparameters(csv_weights="1")
    tree.channel("train", {"data.csv": as_csv(rows)})

    assert job.main(tree.environ) == 0, tree.failure

    data = xgboost.DMatrix(records[:, 1:].astype(np.float32), records[:, 0], weight=weights)
    expected = xgboost.train({}, data, 3)
    np.testing.assert_allclose(_booster(tree).predict(data), expected.predict(data), atol=1e-6)


@pytest.mark.parametrize("given", [{}, {"tree_method": "exact"}], ids=["hist", "exact"])
@pytest.mark.parametrize("objective", ["rank:pairwise", "rank:ndcg", "rank:map"])
def test_job_ranks_records_of_libsvm(
    tree: Tree, records: np.ndarray, objective: str, given: dict[str, str]
) -> None:
    """Its weights of 1 are none, which XGBoost would take for weights of whole lists (C-097)."""
    tree.hyperparameters(objective=objective, **given)
    tree.channel("train", {"data.libsvm": as_libsvm(records)})

    assert job.main(tree.environ) == 0, tree.failure

    data = xgboost.DMatrix(records[:, 1:].astype(np.float32), records[:, 0])
    expected = xgboost.train({"objective": objective} | given, data, 3)
    np.testing.assert_allclose(_booster(tree).predict(data), expected.predict(data), atol=1e-6)


def test_job_refuses_weights_of_records_that_are_ranked(tree: Tree, records: np.ndarray) -> None:
    """They would be lost, or fail in terms of XGBoost's source (C-027)."""
    lines = as_libsvm(records).replace(b" ", b":2 ", 1)
    tree.hyperparameters(objective="rank:ndcg")
    tree.channel("train", {"data.libsvm": lines})

    assert job.main(tree.environ) == 1
    assert "channel 'train': there are records with a weight" in tree.failure


@pytest.mark.parametrize("is_there", [False, True])
def test_job_uses_a_gpu_that_is_there(
    cancer: Tree,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_there: bool,
) -> None:
    """The log says so; without one nothing is asked of XGBoost that it would have to refuse."""
    monkeypatch.setattr("container.algorithms.xgboost.training.gpu.has_gpu", lambda: is_there)

    assert job.main(cancer.environ) == 0, cancer.failure

    output = capsys.readouterr().out
    assert f'"event": "training_device", "device": "{"cuda" if is_there else "cpu"}"' in output
    # What XGBoost says to `device=cuda` where there is none in truth.
    assert ("Device is changed from GPU to CPU" in output) == is_there


def test_job_without_enough_memory_on_the_gpu_says_what_to_do(
    cancer: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the memory of the machine, which the message would otherwise name (C-028)."""
    text = "Memory allocation error on worker 0: std::bad_alloc: cudaErrorMemoryAllocation"

    def refuse(*_: object) -> None:
        raise xgboost.core.XGBoostError(text)

    monkeypatch.setattr("container.algorithms.xgboost.training.rounds.Boosting.run", refuse)

    assert job.main(cancer.environ) == 1
    assert cancer.failure.startswith("the memory of the GPU does not suffice")


@pytest.mark.parametrize("usable_share", [0.8, 0.0], ids=["in memory", "on disk"])
@pytest.mark.parametrize(
    "given",
    [
        {"tree_method": "exact"},
        {"tree_method": "approx"},
        {"booster": "gblinear"},
        {"booster": "dart", "rate_drop": "0.1"},
        {"objective": "multi:softprob", "num_class": "2"},
        {"objective": "survival:cox"},
        {"objective": "survival:aft", "aft_loss_distribution": "normal"},
        {"objective": "count:poisson"},
        {"objective": "reg:linear"},
        {"tree_method": "hist", "monotone_constraints": str((1,) * 30)},
        {"tree_method": "hist", "interaction_constraints": "[[1,2],[3,4]]"},
        {"num_parallel_tree": "3", "subsample": "0.5"},
        {"updater": "grow_colmaker,prune"},
        {"max_bin": "64", "grow_policy": "lossguide", "max_leaves": "8"},
        {"objective": "reg:absoluteerror", "eta": "1.5", "base_score": "-2"},
        {"objective": "reg:pseudohubererror", "huber_slope": "0.5", "eval_metric": "mphe"},
        {"objective": "reg:quantileerror", "quantile_alpha": "0.5"},
        {"objective": "reg:quantileerror", "quantile_alpha": "[0.1,0.9]"},
        {"objective": "reg:quantileerror", "quantile_alpha": "[0.1,0.9]", "booster": "dart"},
        {"objective": "multi:softprob", "num_class": "2", "multi_strategy": "multi_output_tree"},
        {"objective": "rank:ndcg", "lambdarank_pair_method": "mean", "ndcg_exp_gain": "false"},
        {"objective": "rank:ndcg", "lambdarank_unbiased": "true", "lambdarank_bias_norm": "2"},
        {"objective": "binary:logistic", "eval_metric": "pre@5,ams@0.15,auc", "device": "cpu"},
        {"monotone_constraints": str((1,) * 30), "max_cat_to_onehot": "4", "nthread": "0"},
        {"tree_method": "approx", "interaction_constraints": "[[1,2],[3,4]]"},
        {
            "objective": "survival:aft",
            "eval_metric": "aft-nloglik,interval-regression-accuracy",
            "aft_loss_distribution_scale": "1.2",
        },
    ],
)
def test_job_kinds_of_training_leave_a_model(
    cancer: Tree,
    given: dict[str, str],
    records: np.ndarray,
    usable_share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XGBoost trains with all accepted hyperparameters, also if memory is short."""
    monkeypatch.setattr(
        "container.algorithms.xgboost.training.matrices._USABLE_SHARE", usable_share
    )
    cancer.hyperparameters(**given)
    if given.get("objective") == "survival:aft":
        labels = records[:, :1] + 1
        cancer.channel("train", {"part-0.csv": as_csv(np.hstack([labels, records[:, 1:]]))})
        cancer.channel("validation", {"part-0.csv": as_csv(records[:10] + 1)})

    assert job.main(cancer.environ) == 0, cancer.failure
    assert "xgboost-model" in cancer.model_files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hyperparameters.json", {}, "'num_round': is required"),
        ("hyperparameters.json", [], "must hold a JSON object"),
        ("hyperparameters.json", {"num_round": "1", "max_deph": "2"}, "did you mean 'max_depth'?"),
        ("hyperparameters.json", {"num_round": "x"}, "'x' is not accepted"),
        ("hyperparameters.json", {"num_round": "1", "algorithm": "magic"}, "known are: lightgbm, "),
        (
            "hyperparameters.json",
            {"num_round": "1", "early_stopping_rounds": "2"},
            "needs the channel 'validation'",
        ),
        (
            "hyperparameters.json",
            {"num_round": "1", "_tuning_objective_metric": "validation:rmse"},
            "'validation:rmse' is a metric of the channel 'validation', which the job does not "
            "have; add it to InputDataConfig, or tune 'train:rmse'",
        ),
        ("inputdataconfig.json", {"training": {}}, "channels found: 'training'"),
        ("inputdataconfig.json", {}, "channels found: none"),
        ("inputdataconfig.json", {"train": {}, "validation": {}}, "input/data/validation does not"),
        ("inputdataconfig.json", {"train": {"ContentType": "image/png"}}, "'image/png'"),
        ("inputdataconfig.json", {"train": {"TrainingInputMode": "Tube"}}, "'Tube' is not known"),
        (
            "inputdataconfig.json",
            {"train": {"ContentType": "text/csv;label_size=0"}},
            "label_size='0' is not supported",
        ),
    ],
)
def test_job_bad_configuration_fails_with_the_reason(
    tree: Tree, records: np.ndarray, name: str, content: object, message: str
) -> None:
    """Exit code 1, a failure file, no model (C-014, C-027, C-028)."""
    tree.hyperparameters()
    tree.channel("train", {"data.csv": as_csv(records)})
    tree.configure(name, content)

    assert job.main(tree.environ) == 1
    assert message in tree.failure
    assert len(tree.failure) <= 1024
    assert tree.model_files == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no data"),
        ({".DS_Store": b"x", "_SUCCESS": b"x"}, "holds no data"),
        ({"a.csv": b"y,x\n1,2\n"}, "file 'a.csv': line 1: the line is a header"),
        ({"a.csv": b"1,2\n0,3\n1,oops\n"}, "file 'a.csv': line 3, column 2"),
        ({"a.csv": b"yes,2\nno,3\n"}, "line 1, column 1: the cell is a word for true or false"),
        (
            {"a.csv": b"1,2,3\n0,3,4\n", "b.csv": b"1,2\n"},
            "file 'b.csv': line 1: the line has 2 columns where 3 are expected",
        ),
        ({"a.csv": b"1,2\n,3\n"}, "line 2: the label is missing"),
        ({"a.csv": b"1,2\nnan,3\n"}, "line 2: the label is missing; every record needs one"),
        ({"a.csv": b",0,1\n0,1,3\n"}, "line 1: the label is missing; every record needs one; if"),
        ({"a.csv": b"1\n0\n"}, "no features are left"),
        ({"a.csv": b"1,2\n1,3\n"}, "all 2 labels are 1"),
        ({"a.csv.gz": _gzip(b"")}, "holds no records"),
        ({"a.csv.gz": b"\x1f\x8b\x08not gzip"}, "cannot be read"),
        (
            {"a.csv.gz": _gzip(b"1,2\n0,3\n" * 999)[:30] + b"garbage"},
            "cannot be read",
        ),
        ({"a.csv": b"1,2\n2,3\n"}, "label 2 does not fit objective='binary:logistic'"),
        (
            {"a.csv.gz": _gzip(b"1,2\n0,3\n" * 99)[:-20]},
            "'a.csv.gz': cannot be read",
        ),
        ({"a.libsvm": b"1 0:1\n0 0:x\n"}, "file 'a.libsvm': line 2, column 2"),
        (
            {"a.csv": b"1,2\n0,3\n", "b.libsvm": b"1 0:1\n"},
            "file 'b.libsvm': this looks like libsvm, not text/csv",
        ),
    ],
)
def test_job_bad_data_fails_with_file_and_line(
    tree: Tree, files: dict[str, bytes], message: str
) -> None:
    """The message names the position and the remedy."""
    tree.hyperparameters(objective="binary:logistic")
    tree.channel("train", files)

    assert job.main(tree.environ) == 1
    assert message in tree.failure
    assert "Traceback" not in tree.failure
    assert tree.model_files == []


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("is_index", [True, False])
def test_job_index_in_place_of_class_labels_is_explained(
    tree: Tree, first: int, *, is_index: bool
) -> None:
    """As pandas writes it by default; labels that do not count up are other people's."""
    labels = [first + row + (row > 4 and not is_index) for row in range(12)]
    tree.hyperparameters(objective="binary:logistic")
    tree.channel("train", {"a.csv": "".join(f"{label},0,1\n" for label in labels).encode()})

    assert job.main(tree.environ) == 1

    assert "does not fit objective='binary:logistic'; labels must lie" in tree.failure
    assert ("count up by 1, as an index does" in tree.failure) is is_index


def test_job_labels_counted_from_one_are_explained(tree: Tree) -> None:
    """Refuses labels from 1, the commonest mistake with several classes."""
    tree.hyperparameters(objective="multi:softmax", num_class="3")
    tree.channel("train", {"a.csv": b"1,5\n2,6\n3,7\n"})

    job.main(tree.environ)

    assert "if yours count from 1, subtract 1" in tree.failure


def test_job_wider_validation_is_refused(tree: Tree) -> None:
    """More columns in validation than in train."""
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"1,5\n2,6\n"})
    tree.channel("validation", {"a.csv": b"1,5,6\n2,6,7\n"})

    job.main(tree.environ)

    assert "'validation' has 2 feature columns where 'train' has 1" in tree.failure


def test_job_unknown_channel_is_ignored(cancer: Tree) -> None:
    """Up to 20 channels may be there; those that the algorithm does not know do no harm (C-036)."""
    cancer.channel("My-other.channel_1", {"x.png": b"\x89PNG"})

    assert job.main(cancer.environ) == 0


def test_job_bad_setting_fails_with_the_reason(tree: Tree) -> None:
    """Also before the settings are known the failure file has its place."""
    assert job.main(tree.environ | {"SAGEMAKER_CONTAINER_LOG_LEVEL": "loud"}) == 1
    assert "SAGEMAKER_CONTAINER_LOG_LEVEL='loud' is not accepted" in tree.failure


def test_job_model_directory_that_cannot_be_written_fails_with_the_reason(cancer: Tree) -> None:
    """Fails with the reason when a file takes the place of the directory."""
    (cancer.root / "model").write_text("a file where the directory should be")

    assert job.main(cancer.environ) == 1
    assert "model directory cannot be written" in cancer.failure


def test_job_failing_run_keeps_the_model_of_an_earlier_one(cancer: Tree) -> None:
    """No half-written model, and no lost one (C-030)."""
    job.main(cancer.environ)
    before = (cancer.root / "model" / "xgboost-model").read_bytes()
    cancer.hyperparameters(objective="nonsense")

    assert job.main(cancer.environ) == 1
    assert (cancer.root / "model" / "xgboost-model").read_bytes() == before


def test_job_writes_nothing_into_the_channels(cancer: Tree) -> None:
    """FastFile mounts are read-only (C-018)."""
    data = cancer.root / "input"
    before = sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*"))

    job.main(cancer.environ)

    assert sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*")) == before


def test_job_reads_large_files_in_chunks(
    tree: Tree, records: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file cut into many chunks gives the same model as in one piece."""
    tree.hyperparameters()
    tree.channel("train", {"a.csv": as_csv(records)})
    job.main(tree.environ)
    whole = (tree.root / "model" / "xgboost-model").read_bytes()
    monkeypatch.setattr("train.input.parsing.chunks.CHUNK_BYTES", 1000)

    assert job.main(tree.environ) == 0
    assert (tree.root / "model" / "xgboost-model").read_bytes() == whole


def test_job_line_numbers_count_through_the_chunks(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line in the message is the line in the file."""
    monkeypatch.setattr("train.input.parsing.chunks.CHUNK_BYTES", 10)
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"1,2\n" * 50 + b"1,x\n" + b"1,2\n" * 50})

    job.main(tree.environ)

    assert "line 51, column 2" in tree.failure


def test_job_says_nothing_of_the_host_in_the_failure(tree: Tree) -> None:
    """Paths of the machine stay in the log."""
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"x\n"})

    job.main(tree.environ)

    assert str(Path(tree.root).parent) not in tree.failure


def test_job_failure_file_takes_any_text(tree: Tree) -> None:
    """A lone surrogate or a line break in a name neither empties the file nor adds a line to it."""
    tree.hyperparameters()
    tree.channel("train", {"a.csv": b"1,2\n0,3\n"})
    for text in ("\ud800", "line\nbreak", "\x1b[31m"):
        tree.configure("inputdataconfig.json", {f"train{text}": {}})
        assert job.main(tree.environ) == 1
        assert tree.failure.count("\n") == 1
        assert "channels found" in tree.failure
        (tree.root / "output" / "failure").unlink()
        tree.configure("hyperparameters.json", {"num_round": "1", f"x{text}": "1"})
        assert job.main(tree.environ) == 1
        assert tree.failure.count("\n") == 1
        (tree.root / "output" / "failure").unlink()
        tree.hyperparameters()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1,-1", "line 2: the weight"),
        ("1,", "line 2: the weight"),
        ("nan,1", "line 1: the weight"),
        ("0,0", "all weights are 0"),
    ],
)
def test_job_bad_weights_are_named(tree: Tree, weights: str, message: str) -> None:
    """csv_weights=1: each record weighs something that is not negative."""
    first, second = weights.split(",")
    tree.hyperparameters(csv_weights="1")
    tree.channel("train", {"a.csv": f"1,{first},5\n0,{second},6\n".encode()})

    assert job.main(tree.environ) == 1
    assert message in tree.failure


@pytest.mark.parametrize("metric", ["f1", "accuracy", "nonsense", "validation:auc:x"])
def test_job_watched_metric_never_fails_the_job(cancer: Tree, metric: str) -> None:
    """One that is known is computed, another is ignored with a warning (C-013)."""
    cancer.hyperparameters(
        objective="binary:logistic", _tuning_objective_metric=f"validation:{metric}"
    )

    assert job.main(cancer.environ) == 0, cancer.failure


@pytest.mark.parametrize(
    "given", [{"_tuning_objective_metric": "train:rmse"}, {"_kfold": "2"}], ids=["train", "folds"]
)
def test_job_without_validation_may_be_tuned(
    tree: Tree, records: np.ndarray, given: dict[str, str]
) -> None:
    """By the metrics of `train`, and by those of the folds that are left out. C-013."""
    tree.hyperparameters(**{"_tuning_objective_metric": "validation:rmse"} | given)
    tree.channel("train", {"data.csv": as_csv(records)})

    assert job.main(tree.environ) == 0, tree.failure


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_job_computes_the_area_under_the_curve_of_several_classes(
    tree: Tree, records: np.ndarray, objective: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """XGBoost computes it from probabilities, one class against the rest. C-097."""
    rows = records.astype(np.float32)
    rows[:, 0] = np.digitize(rows[:, 1], np.quantile(rows[:, 1], [0.3, 0.6]))
    rows[::7, 0] = 0  # so that it is not 1
    tree.hyperparameters(objective=objective, num_class="3", eval_metric="auc,aucpr,mlogloss")
    tree.channel("train", {"a.csv": as_csv(rows)})

    assert job.main(tree.environ) == 0, tree.failure

    data = xgboost.DMatrix(rows[:, 1:], rows[:, 0])
    given = {"objective": objective, "num_class": 3, "eval_metric": "auc"}
    line = xgboost.train(given, data, 3).eval(data)
    scores = _scores(capsys.readouterr().out, "train-auc")
    assert scores[-1] == pytest.approx(float(line.rpartition(":")[2]), abs=1e-5)
    assert 0.5 < scores[-1] < 1


@pytest.mark.parametrize(
    "given",
    [
        {"objective": "reg:quantileerror", "quantile_alpha": "[0.1,0.5,0.9]"},
        {"objective": "multi:softprob", "num_class": "3", "multi_strategy": "multi_output_tree"},
        {"objective": "multi:softprob", "num_class": "3", "base_score": "[0.1,0.2,0.7]"},
    ],
    ids=["quantiles", "trees of all classes", "a base score for each"],
)
def test_job_of_several_outputs_is_served_as_it_was_trained(
    tree: Tree, records: np.ndarray, given: dict[str, str]
) -> None:
    """The manifest knows how many there are, and the server answers with what XGBoost predicts."""
    rows = records.astype(np.float32)
    rows[:, 0] = np.digitize(rows[:, 1], np.quantile(rows[:, 1], [0.3, 0.6]))
    tree.hyperparameters(**given)
    tree.channel("train", {"a.csv": as_csv(rows)})

    assert job.main(tree.environ) == 0, tree.failure

    directory = tree.root / "model"
    facts = manifest.read(directory)
    assert facts is not None
    assert facts.model.n_outputs == 3
    ALGORITHM.verify(directory, facts)
    model = ALGORITHM.load(directory, facts, ServingOptions())
    served = model.predict(np.ascontiguousarray(rows[:50, 1:]))
    assert served.shape == (50, 3)
    np.testing.assert_array_equal(served, _booster(tree).predict(xgboost.DMatrix(rows[:50, 1:])))
    assert len(np.unique(served)) > 3


@pytest.mark.parametrize("device", ["cuda", "gpu:0", "cuda:7"])
def test_job_names_a_gpu_that_is_not_there(tree: Tree, records: np.ndarray, device: str) -> None:
    """XGBoost would train on the CPU and say so in a line of its log. C-014."""
    tree.hyperparameters(device=device)
    tree.channel("train", {"a.csv": as_csv(records)})

    assert job.main(tree.environ) == 1
    named = device.replace("gpu", "cuda")
    assert f"'device': '{named}' needs that GPU and the GPU image" in tree.failure


@pytest.mark.skipif(
    tuple(map(int, xgboost.__version__.split(".")[:2])) >= (3, 4), reason="it is known to 3.4"
)
def test_job_names_what_the_installed_xgboost_does_not_know(tree: Tree) -> None:
    """Before any data is read, with what is accepted. C-014."""
    tree.hyperparameters(objective="reg:expectileerror", expectile_alpha="0.5")
    tree.channel("train", {"a.csv": b"this,would,fail,later\n"})

    assert job.main(tree.environ) == 1
    assert "Unknown objective function: `reg:expectileerror`" in tree.failure


def _scores(output: str, name: str) -> list[float]:
    """Return the values of one metric in the metric lines."""
    lines = [line for line in output.splitlines() if line.startswith("[")]
    found = [re.search(rf"\t{re.escape(name)}:(\S+)", line) for line in lines]
    return [float(match[1]) for match in found if match]


def test_job_reports_metrics_under_the_names_asked_for(
    cancer: Tree, records: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """XGBoost prints some under other names, and none twice; a tuning job looks for its own (C-013,
    C-100).
    """
    given = {"error@0.50": 0.5, "error@.7": 0.7, "error@0.5": 0.5, "error": 0.5, "error@0.70": 0.7}
    cancer.hyperparameters(
        objective="binary:logistic",
        eval_metric=",".join([*given, "f1", "auc"]),
        _tuning_objective_metric="validation:error@0.9",
    )

    assert job.main(cancer.environ) == 0, cancer.failure

    output = capsys.readouterr().out
    rows = records[400:].astype(np.float32)
    predicted = _booster(cancer).predict(xgboost.DMatrix(rows[:, 1:]))
    for name, threshold in (given | {"error@0.9": 0.9}).items():
        expected = np.mean((predicted > threshold) != rows[:, 0])
        scores = _scores(output, f"validation-{name}")
        assert len(scores) == 3, name
        assert scores[-1] == pytest.approx(expected, abs=1e-5), name
    assert len(_scores(output, "validation-auc")) == len(_scores(output, "train-f1")) == 3


@pytest.mark.parametrize("metric", ["error@0.5", "error@.7"])
def test_job_early_stopping_may_watch_a_metric_that_xgboost_renames(
    cancer: Tree, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It finds the score under the name that the job uses (C-097)."""
    cancer.hyperparameters(
        num_round="100",
        objective="binary:logistic",
        eval_metric=f"logloss,{metric}",
        early_stopping_rounds="3",
    )

    assert job.main(cancer.environ) == 0, cancer.failure

    scores = _scores(capsys.readouterr().out, f"validation-{metric}")
    assert _booster(cancer).num_boosted_rounds() == scores.index(min(scores)) + 1
    assert len(scores) == scores.index(min(scores)) + 1 + 3


@pytest.mark.parametrize("power", [None, "1.3"])
@pytest.mark.parametrize("key", ["eval_metric", "_tuning_objective_metric"])
def test_job_computes_the_tweedie_metric_for_its_own_power(
    tree: Tree, key: str, power: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """XGBoost takes the name only with a power behind it (C-013)."""
    rows = np.random.default_rng(0).gamma(2, size=(50, 3)).astype(np.float32)
    value = "tweedie-nloglik" if key == "eval_metric" else "validation:tweedie-nloglik"
    given = {"tweedie_variance_power": power} if power else {}
    tree.hyperparameters(objective="reg:tweedie", **{key: value}, **given)
    tree.channel("train", {"a.csv": as_csv(rows)})
    tree.channel("validation", {"a.csv": as_csv(rows)})

    assert job.main(tree.environ) == 0, tree.failure

    data = xgboost.DMatrix(rows[:, 1:], rows[:, 0])
    parameters = {"objective": "reg:tweedie", "eval_metric": f"tweedie-nloglik@{power or 1.5}"}
    line = xgboost.train(parameters | given, data, 3).eval(data)
    scores = _scores(capsys.readouterr().out, "validation-tweedie-nloglik")
    assert scores[-1] == pytest.approx(float(line.rpartition(":")[2]), abs=1e-5)


def test_job_computes_the_metrics_that_xgboost_lacks(
    cancer: Tree, records: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """As scikit-learn computes them of the model's own predictions."""
    import sklearn.metrics

    names = "accuracy,balanced_accuracy,f1,f1_binary,f1_macro,mse,precision,precision_macro"
    names += ",precision_micro,r2,recall,recall_macro,recall_micro"
    cancer.hyperparameters(objective="binary:logistic", eval_metric=f"error,{names}")

    assert job.main(cancer.environ) == 0, cancer.failure

    lines = capsys.readouterr().out.splitlines()
    last = next(line for line in lines if line.startswith("[2]"))
    rows = records[400:].astype(np.float32)
    labels, scores = rows[:, 0], _booster(cancer).predict(xgboost.DMatrix(rows[:, 1:]))
    predicted = scores > 0.5
    for name in names.split(","):
        base, _, average = name.partition("_")
        if name == "mse":
            expected = sklearn.metrics.mean_squared_error(labels, scores)
        elif name == "r2":
            expected = sklearn.metrics.r2_score(labels, scores)
        elif "accuracy" in name:
            expected = getattr(sklearn.metrics, f"{name}_score")(labels, predicted)
        else:
            average = average or ("macro" if base == "f1" else "binary")
            score = getattr(sklearn.metrics, f"{base}_score")
            expected = score(labels, predicted, average=average)
        found = re.search(rf"validation-{name}:(\S+)", last)
        assert found, name
        assert float(found[1]) == pytest.approx(expected, abs=1e-5), name


def test_job_early_stopping_may_watch_such_a_metric(cancer: Tree) -> None:
    """It is maximised, as its name asks."""
    cancer.hyperparameters(
        num_round="100",
        objective="binary:logistic",
        eval_metric="logloss,f1",
        early_stopping_rounds="5",
    )

    assert job.main(cancer.environ) == 0
    assert 1 < _booster(cancer).num_boosted_rounds() < 95
