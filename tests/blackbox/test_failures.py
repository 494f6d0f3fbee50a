"""Failure files of jobs that fail for reasons outside their data."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_test.backends import Backend, DockerBackend, ProcessBackend
from local_test.ml_tree import MlTree
from local_test.outcomes import FinishedRun
from tests.waiting import PATIENCE_SECONDS

Train = Callable[..., FinishedRun]
LARGE = {"objective": "binary:logistic", "num_round": "200", "nthread": "1"}


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def test_job_whose_process_is_killed_leaves_a_reason(backend: Backend, ml: MlTree) -> None:
    """Written by the parent, which survives (C-027, C-028)."""
    ml.write_hyperparameters({"num_round": "1000000", "max_depth": "2"})

    with backend.start_training(ml) as job:
        job.wait_for_output("[3]\t", PATIENCE_SECONDS)
        os.kill(_child_of(job.process_id), signal.SIGKILL)
        exit_code = job.wait(PATIENCE_SECONDS)

    reason = ml.failure_reason() or ""
    assert exit_code == 1
    assert reason.startswith("killed, peak ")
    assert "use an instance with more memory" in reason
    assert ml.model_files() == ()


def test_job_that_runs_out_of_memory_says_how_much_it_had(backend: Backend, ml: MlTree) -> None:
    """Names peak and limit; the cause is a far too large column number of libsvm."""
    ml.write_hyperparameters({"num_round": "3", "objective": "binary:logistic"})
    ml.write_channel("train", {"a.libsvm": b"1 1:2 2:3\n0 1:3 2147483000:1\n"}, content_type=None)
    ml.write_channel("validation", {"a.libsvm": b"1 1:2\n0 1:3\n"}, content_type=None)
    if isinstance(backend, DockerBackend):
        limits = ("--memory", "400m", "--memory-swap", "400m")
        run = DockerBackend(backend.image, limits).run_training(ml, timeout_seconds=120)
        expected = ("killed, peak ", " of 400 MB: memory ran out and the kernel ended the training")
    else:
        shell = ("bash", "-c", 'ulimit -v 4000000; exec "$0" -m container "$@"', sys.executable)
        run = ProcessBackend(command=shell).run_training(ml, timeout_seconds=120)
        expected = ("out of memory, peak ", " MB: use an instance with more memory")

    reason = ml.failure_reason() or ""
    assert run.exit_code == 1, run.output
    assert reason.startswith(expected[0])
    assert expected[1] in reason
    assert "one column number far too large counts as that many columns" in reason


def test_disk_that_is_full_is_named_in_the_failure_file(backend: Backend, ml: MlTree) -> None:
    """The model does not fit, the reason does, and nothing half is left."""
    ml.write_hyperparameters(LARGE)
    if isinstance(backend, DockerBackend):
        small = ("--mount", "type=tmpfs,target=/opt/ml/model,tmpfs-size=64k")
        run = DockerBackend(backend.image, small).run_training(ml, timeout_seconds=120)
    else:
        shell = ("bash", "-c", 'ulimit -f 64; exec "$0" -m container "$@"', sys.executable)
        run = ProcessBackend(command=shell).run_training(ml, timeout_seconds=120)

    assert run.exit_code == 1, run.output[-2000:]
    assert "no space left on a disk" in (ml.failure_reason() or "")
    assert "VolumeSizeInGB" in (ml.failure_reason() or "")
    assert ml.model_files() == ()


# Fills the disk to the last byte as soon as the job runs, and shows what the job leaves there.
ON_A_FULL_DISK = """
mkdir -p /small/ml && cp -r /opt/ml/input /small/ml/input
python -m container train & job=$!
while [ ! -s /small/ml/output/.failure-reserve ]; do :; done
dd if=/dev/zero of=/small/filler bs=1 count=1 2>/dev/null
dd if=/dev/zero of=/small/filler bs=64k 2>/dev/null
df /small | tail -n 1
wait $job; code=$?
echo "REASON $(cat /small/ml/output/failure)"
exit $code
"""


@pytest.mark.docker
def test_failure_file_needs_no_space_on_a_disk_that_is_full_itself(image: str, ml: MlTree) -> None:
    """Reserves the space of the failure file while there is some."""
    ml.write_hyperparameters(LARGE)
    options = ("--entrypoint", "sh", "--env", "SAGEMAKER_BASE_DIR=/small/ml")
    options += ("--mount", "type=tmpfs,target=/small,tmpfs-size=1m")

    run = DockerBackend(image, options).start_program(ml, ["-c", ON_A_FULL_DISK]).finish(120)

    assert run.exit_code == 1, run.output[-2000:]
    assert "100% /small" in run.output
    (reason,) = [line for line in run.output.splitlines() if line.startswith("REASON")]
    assert reason.startswith("REASON no space left on a disk")


def test_secrets_are_not_told(backend: Backend, ml: MlTree) -> None:
    """Masks secrets in the log and in the failure file, which both quote their input."""
    ml.write_hyperparameters({"num_round": "AKIAIOSFODNN7EXAMPLE", "db_password": "hunter22"})

    run = backend.run_training(ml, environment={"AWS_SESSION_TOKEN": "t0k-t0k-t0k"})

    told = run.output + (ml.failure_reason() or "")
    assert run.exit_code == 1
    assert "'num_round': '***' is not accepted" in (ml.failure_reason() or "")
    assert not [secret for secret in ("AKIA", "hunter22", "t0k") if secret in told]


def test_gpu_that_is_not_there_is_asked_for_in_vain(train: Train, ml: MlTree) -> None:
    """XGBoost itself would train on the CPU and say so in a line of its log."""
    assert train(num_round="3", tree_method="gpu_hist").exit_code == 1
    assert "'gpu_hist' needs a GPU" in (ml.failure_reason() or "")


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """As short as /tmp: sockets lie in it, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="byoa-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.mark.parametrize("end", ["success", "failure", "SIGTERM"])
def test_job_leaves_nothing_behind_outside_its_tree(
    ml: MlTree, short_directory: Path, end: str
) -> None:
    """The next job on a warm host finds the same files as this one (C-040)."""
    environment = {"TMPDIR": str(short_directory), "HOME": str(short_directory)}
    ml.write_hyperparameters(
        {"num_round": {"success": "3", "failure": "x"}.get(end, "1000000"), "nthread": "1"}
    )

    with ProcessBackend().start_training(ml, environment=environment) as job:
        if end == "SIGTERM":
            job.wait_for_output("[3]\t", PATIENCE_SECONDS)
            job.terminate()
        exit_code = job.wait(PATIENCE_SECONDS)

    assert exit_code == {"success": 0, "failure": 1, "SIGTERM": 143}[end]
    assert list(short_directory.iterdir()) == []


@pytest.mark.canary
def test_failed_job_leaves_nothing_but_its_reason(train: Train, ml: MlTree) -> None:
    """Leaves no reserved space behind, neither after failure nor after success, which removes the
    reason, too (C-026).
    """
    assert train(num_round="x").exit_code == 1
    assert [path.name for path in (ml.root / "output").iterdir() if path.is_file()] == ["failure"]

    assert train(num_round="3").exit_code == 0
    assert [path.name for path in (ml.root / "output").iterdir() if path.is_file()] == []


@pytest.mark.canary
def test_results_beside_the_model_are_there(train: Train, ml: MlTree) -> None:
    """Scores and importances for programs, a picture for people (C-039)."""
    given = {"num_round": "5", "objective": "binary:logistic", "eval_metric": "logloss,f1"}

    run = train(**given)

    assert run.exit_code == 0, run.output
    metrics = json.loads((ml.output_data_dir / "metrics.json").read_bytes())
    last = next(line for line in run.output.splitlines() if line.startswith("[4]"))
    printed = dict(entry.split(":") for entry in last.split("\t")[1:])
    assert {name: f"{score:.5f}" for name, score in metrics["metrics"].items()} == printed
    importances = json.loads((ml.output_data_dir / "feature_importances.json").read_bytes())
    assert max(importances["gain"].values()) > 0
    picture = (ml.output_data_dir / "learning_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 5000
