"""`train` from outside, by the rules of the platform."""

import hashlib
import json
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xgboost

from local_test.backends import Backend, DockerBackend, ProcessBackend
from local_test.datasets import TabularDataset
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from local_test.programs import RunningProgram
from tests.blackbox.conftest import Trained
from tests.waiting import PATIENCE_SECONDS

Train = Callable[..., FinishedRun]
# One thread: tests share the processors, and OpenMP's threads wait by spinning.
CLASSIFIER = {"objective": "binary:logistic", "num_round": "5", "nthread": "1"}


# Run by the Python of the image, since another version of XGBoost grows other trees.
DIRECT = """
import json, os, pathlib, numpy, xgboost
root = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
given = json.loads((root / "direct.json").read_text())
rows = numpy.array([line.split(",") for line in given["train"].split()], dtype=numpy.float32)
data = xgboost.DMatrix(rows[:, 1:], rows[:, 0])
xgboost.train(given["parameters"], data, given["n_rounds"]).save_model(root / "direct.ubj")
"""


def _assert_as_trained_directly(
    backend: Backend, ml: MlTree, cancer: TabularDataset, n_rounds: int, **parameters: object
) -> None:
    """The job's model predicts as one that XGBoost makes of the same records without us."""
    given = {"train": cancer.train.decode(), "parameters": parameters, "n_rounds": n_rounds}
    (ml.root / "direct.json").write_text(json.dumps(given))
    if isinstance(backend, DockerBackend):
        python: Backend = DockerBackend(backend.image, ("--entrypoint", "python"))
    else:
        python = ProcessBackend(command=(sys.executable,))
    run = python.start_program(ml, ["-c", DIRECT]).finish(60)
    assert run.exit_code == 0, run.output
    rows = [line.split(",") for line in cancer.payload.decode().splitlines()]
    features = np.array(rows, dtype=np.float32)
    np.testing.assert_allclose(
        _predict(ml.model_dir / "xgboost-model", features),
        _predict(ml.root / "direct.ubj", features),
        atol=1e-6,
    )


def _predict(file: Path, features: np.ndarray) -> np.ndarray:
    booster = xgboost.Booster(model_file=bytearray(file.read_bytes()))
    return booster.predict(xgboost.DMatrix(features))


@pytest.mark.canary
def test_training_succeeds_and_leaves_the_model(trained: Trained) -> None:
    """Exit code 0, xgboost-model in place, no failure file (C-001, C-026, C-097)."""
    assert trained.run.exit_code == 0
    assert trained.ml.model_files() == ("byoa-manifest.json", "xgboost-model")
    assert trained.ml.failure_reason() is None


def test_training_logs_to_stdout_while_it_runs(trained: Trained) -> None:
    """Everything worth reading is there, one JSON object or metric line at a time."""
    lines = trained.run.output.splitlines()
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert events[0] == "channel_opened"
    assert events[-1] == "training_completed"
    assert all(line.startswith(("{", "[")) for line in lines)


@pytest.mark.canary
@pytest.mark.parametrize("metric", ["train:error", "validation:error", "validation:logloss"])
def test_metric_lines_match_the_published_expressions(trained: Trained, metric: str) -> None:
    """Matches also as CloudWatch shows the lines, with the tab as #011 (C-034, C-100)."""
    name = metric.replace(":", "-")
    log = trained.run.output.replace("\t", "#011")

    values = [float(v.split("#")[0]) for v in re.findall(rf".*\[[0-9]+\].*#011{name}:(\S+)", log)]

    assert len(values) == len(re.findall(r"^\[\d+\]#011", log, re.MULTILINE)) > 5
    assert values[-1] < values[0]


def test_hyperparameters_are_strings_however_they_are_written(
    train: Train, backend: Backend, ml: MlTree, cancer: TabularDataset
) -> None:
    """Text, JSON-encoded text, encoded twice, and native JSON values (C-011, C-012)."""
    ml.hyperparameters_file.write_text(
        json.dumps(
            {
                "objective": '"binary:logistic"',
                "num_round": '"\\"4\\""',
                "eta": 0.5,
                "max_depth": 3,
                "subsample": "1.0",
            }
        )
    )

    assert train().exit_code == 0
    _assert_as_trained_directly(
        backend, ml, cancer, 4, objective="binary:logistic", eta=0.5, max_depth=3
    )


def test_what_others_add_to_a_job_never_fails(train: Train, ml: MlTree) -> None:
    """Keys of the SDK and of tuning jobs, and 18 channels of odd names beside the two that matter
    (C-013, C-036).
    """
    for index in range(18):
        ml.write_channel(f"Other.-_{index}{'x' * 50}", {"image.png": b"\x89PNG"})

    run = train(
        **CLASSIFIER,
        sagemaker_container_log_level="20",
        sagemaker_job_name='"job"',
        sagemaker_region='"eu-west-1"',
        _tuning_objective_metric="validation:logloss",
    )

    assert run.exit_code == 0, run.output


# The other mistakes are in tests/unit/train/test_job.py and those of each algorithm.
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"num_round": "5", "max_dept": "3"}, "'max_dept': is not known; did you mean 'max_depth'"),
        ({"num_round": "5", "tree_method": "hist", "monotone_constraints": "open('x')"}, "'mono"),
    ],
)
def test_bad_hyperparameter_fails_before_the_data_is_read(
    train: Train, ml: MlTree, given: dict[str, str], named: str
) -> None:
    """Non-zero, and a failure file that names the key (C-014, C-027, C-028, C-096)."""
    ml.write_channel("train", {"a.csv": b"this,would,fail,later\n"})

    run = train(**given)

    assert run.exit_code == 1
    assert named in (ml.failure_reason() or "").splitlines()[0]
    assert "channel_opened" not in run.output
    assert ml.model_files() == ()


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("content", [None, "{broken"])
def test_absent_or_broken_hyperparameters_file_is_a_clean_failure(
    train: Train, ml: MlTree, content: str | None
) -> None:
    """`num_round` has no default, so the job says that it is missing (C-015)."""
    if content is None:
        ml.hyperparameters_file.unlink()
    else:
        ml.hyperparameters_file.write_text(content)

    assert train().exit_code == 1
    assert re.search(r"num_round|hyperparameters\.json", ml.failure_reason() or "")


def test_every_file_of_a_channel_is_read(
    train: Train, backend: Backend, ml: MlTree, cancer: TabularDataset
) -> None:
    """Several files in nested folders, a channel entry with one key (C-016, C-017)."""
    lines = cancer.train.splitlines(keepends=True)
    ml.write_channel(
        "train",
        {
            "2026/11/22/part 0000 é.csv": b"".join(lines[:100]),
            "2026/11/part-0001": b"".join(lines[100:250]),
            "part-0002.csv": b"".join(lines[250:]),
            "_SUCCESS": b"",
            ".DS_Store": b"\x00\x00\x00\x01Bud1",
        },
    )
    config = {"train": {"TrainingInputMode": "File"}}
    ml.input_data_config_file.write_text(json.dumps(config))

    assert train(**CLASSIFIER).exit_code == 0, ml.failure_reason()
    _assert_as_trained_directly(backend, ml, cancer, 5, objective="binary:logistic")


def test_channels_may_be_read_only(backend: Backend, ml: MlTree) -> None:
    """FastFile channels cannot be written to, and nothing tries (C-018)."""
    ml.write_hyperparameters(CLASSIFIER)
    if isinstance(backend, DockerBackend):
        option = f"type=bind,source={ml.data_dir},target=/opt/ml/input/data,readonly"
        run = DockerBackend(backend.image, ("--mount", option)).run_training(ml)
    else:
        with _read_only(ml.data_dir):
            run = backend.run_training(ml)

    assert run.exit_code == 0, run.output


@contextmanager
def _read_only(directory: Path) -> Iterator[None]:
    paths = [directory, *directory.rglob("*")]
    modes = [path.stat().st_mode for path in paths]
    stamps = [path.stat().st_mtime_ns for path in paths]
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode)
    assert [path.stat().st_mtime_ns for path in paths] == stamps


# The other kinds are in tests/unit/train/test_job.py.
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize(
    ("channel", "files", "message"),
    [
        ("training", {"a.csv": b"1,2\n0,3\n"}, "channels found: 'training'"),
        (
            "train",
            {"a.csv": b"1,2\n0,3\n", "b.csv": b"1,2,3\n"},
            "file 'b.csv': line 1: the line has 3",
        ),
    ],
)
def test_bad_data_fails_with_cause_and_place(
    train: Train, ml: MlTree, channel: str, files: dict[str, bytes], message: str
) -> None:
    """The first line of the failure file says what to mend; no model is left (C-027, C-028)."""
    ml.input_data_config_file.write_text("{}")
    ml.write_channel(channel, files)

    run = train(**CLASSIFIER)

    assert run.exit_code == 1
    assert message in (ml.failure_reason() or "").splitlines()[0]
    assert "Traceback" not in (ml.failure_reason() or "")
    assert ml.model_files() == ()


def test_csv_has_its_label_first_and_no_header(train: Train, ml: MlTree) -> None:
    """Declared with parameters in any case (C-038)."""
    ml.write_channel("train", {"a.csv": b"1,5\n0,6\n1,7\n"}, content_type="Text/CSV; Label_Size=1")
    ml.write_channel("validation", {"a.csv": b"1,5\n0,6\n"}, content_type="csv")
    assert train(**CLASSIFIER).exit_code == 0, ml.failure_reason()


def test_environment_of_the_toolkits_is_not_needed(
    backend: Backend, ml: MlTree, trained: Trained
) -> None:
    """Needs no SM_* variable, job name, region or credentials; wrong ones do no harm
    (C-035, C-007).
    """
    assert trained.run.exit_code == 0  # which had none of them

    ml.write_hyperparameters(CLASSIFIER)
    misleading = {"SM_CHANNEL_TRAIN": "/nowhere", "SM_MODEL_DIR": "/nowhere", "AWS_REGION": "x"}
    assert backend.run_training(ml, environment=misleading).exit_code == 0


def test_failed_job_keeps_the_earlier_model(train: Train, ml: MlTree) -> None:
    """The model directory changes only when a new model is complete (C-030)."""
    train(**CLASSIFIER)
    before = {name: (ml.model_dir / name).read_bytes() for name in ml.model_files()}

    assert train(num_round="5", objective="binary:logistic", eta="-9").exit_code == 1

    assert {name: (ml.model_dir / name).read_bytes() for name in ml.model_files()} == before
    assert ml.failure_reason() is not None


def test_job_killed_while_it_writes_leaves_whole_files(backend: Backend, ml: MlTree) -> None:
    """The old model or the new one under each name, whenever SIGKILL comes; and the next job is not
    disturbed by what the killed one left (C-030).
    """
    n_rounds = 400
    ml.write_hyperparameters(CLASSIFIER)
    assert backend.run_training(ml).exit_code == 0
    old = (ml.model_dir / "xgboost-model").read_bytes()
    ml.write_hyperparameters(CLASSIFIER | {"num_round": str(n_rounds), "max_depth": "12"})

    for milliseconds in (0, 2, 8):
        with backend.start_training(ml) as job:
            _wait_for_writing(job, ml)
            time.sleep(milliseconds / 1000)
            job.send_signal(signal.SIGKILL)
            job.close()
        model = (ml.model_dir / "xgboost-model").read_bytes()
        if model != old:
            booster = xgboost.Booster(model_file=bytearray(model))
            assert booster.num_boosted_rounds() == n_rounds
        manifest = ml.model_dir / "byoa-manifest.json"
        if manifest.exists():
            (record,) = json.loads(manifest.read_text())["files"].values()
            assert record["sha256"] == hashlib.sha256(model).hexdigest()

    assert backend.run_training(ml).exit_code == 0
    assert sorted(path.name for path in ml.model_dir.iterdir()) == [
        "byoa-manifest.json",
        "xgboost-model",
    ]


def _wait_for_writing(job: RunningProgram, ml: MlTree) -> None:
    """Return when anything in the model directory is not as it was."""
    before = _seen(ml)
    deadline = time.monotonic() + 300  # it shares two processors with other tests
    while _seen(ml) == before and time.monotonic() < deadline and job.is_running():
        time.sleep(0.0005)
    assert _seen(ml) != before, job.output()[-2000:]


def _seen(ml: MlTree) -> list[tuple[str, int]]:
    with os.scandir(ml.model_dir) as entries:
        return sorted((entry.name, entry.inode()) for entry in entries)


def test_model_files_can_be_read_by_anybody(trained: Trained) -> None:
    """The server may run as another user (C-005)."""
    for name in trained.ml.model_files():
        assert (trained.ml.model_dir / name).stat().st_mode & 0o444 == 0o444


def test_sigterm_ends_the_job_without_half_a_model(backend: Backend, ml: MlTree) -> None:
    """Gone well within 120 s, half a model is never left, rounds were logged live (C-008,
    C-029).
    """
    ml.write_hyperparameters({"num_round": "1000000", "max_depth": "2"})

    with backend.start_training(ml) as job:
        job.wait_for_output("[3]\t", PATIENCE_SECONDS)
        stopped = job.stop(grace_seconds=60)

    assert stopped.ended_by == "SIGTERM"
    assert stopped.exit_code == 143
    assert ml.model_files() in ((), ("byoa-manifest.json", "xgboost-model"))


@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("arguments", [[], ["fit"], ["train", "now"], ["--help", "me"]])
def test_unknown_verb_ends_with_a_message(
    backend: Backend, ml: MlTree, arguments: list[str]
) -> None:
    """Ends at once with an error code (C-009)."""
    run = backend.start_program(ml, arguments).finish(timeout_seconds=PATIENCE_SECONDS)

    assert run.exit_code == 2
    assert "the verb must be train or serve" in run.output
    assert "usage:" in run.output


@pytest.mark.canary
@pytest.mark.docker_cases(1)
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["serve", "-h"]])
def test_help_is_there(backend: Backend, ml: MlTree, arguments: list[str]) -> None:
    """`--help` explains the two verbs, wherever it stands."""
    run = backend.start_program(ml, arguments).finish(timeout_seconds=PATIENCE_SECONDS)

    assert run.exit_code == 0
    assert "serve   answer GET /ping and POST /invocations" in run.output
