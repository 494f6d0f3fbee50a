"""Keys of AWS's training toolkit: used, passed over, or refused, and never dropped in silence."""

import logging
from collections.abc import Iterator

import pytest

from container.errors import HyperparameterError
from container.settings import Settings
from tests.unit.train.conftest import Tree
from train import control_keys, job

# What the SDK's estimators add without a script, beside what tuning jobs add.
OF_ALGORITHM_MODE = {
    "sagemaker_container_log_level": "20",
    "sagemaker_job_name": '"job"',
    "sagemaker_region": '"eu-west-1"',
    "sagemaker_enable_cloudwatch_metrics": "false",
    "sagemaker_program": "null",
    "sagemaker_submit_directory": '""',
    "sagemaker_mpi_enabled": "false",
    "sagemaker_mpi_num_of_processes_per_host": "1",
    "default_user_module_name": "None",
}


@pytest.fixture(autouse=True)
def root_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def _warned(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    return {
        record.__dict__["key"]: record.__dict__["reason"]
        for record in caplog.records
        if record.getMessage() == "control_key_ignored"
    }


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("sagemaker_mpi_enabled", "true", "a script is run once on each (SM_HOSTS)"),
        ("sagemaker_parameter_server_enabled", "true", "leave out 'distribution'"),
        ("sagemaker_distributed_dataparallel_enabled", "true", "'true' asks for another way"),
        ("sagemaker_torch_distributed_enabled", "True", "which this image has not"),
        ("sagemaker_anything_new_enabled", "1", "which this image has not"),
        ("sagemaker_distribution_instance_groups", '["one"]', "all hosts of the job train"),
        ("sagemaker_instance_groups", "one", "all hosts of the job train"),
        ("sagemaker_container_log_level", "loud", "'loud' is not accepted; use an integer from 0"),
    ],
)
def test_key_that_asks_for_what_is_not_done_is_refused_by_name(
    key: str, value: str, named: str
) -> None:
    """The job fails with what to do instead of training another model. C-104."""
    with pytest.raises(HyperparameterError) as caught:
        control_keys.check({key: value}, Settings())

    assert f"hyperparameter {key!r}" in caught.value.message
    assert named in caught.value.message


def test_module_of_a_framework_is_refused(cancer: Tree) -> None:
    """AWS's own images train with one; here a script is named instead. C-104."""
    assert job.main(cancer.environ | {"SAGEMAKER_TRAINING_MODULE": "a.b:main"}) == 1

    assert "environment variable SAGEMAKER_TRAINING_MODULE='a.b:main'" in cancer.failure
    assert "use SAGEMAKER_PROGRAM to run a script of your own" in cancer.failure
    assert cancer.model_files == []


def test_script_without_sources_is_refused(cancer: Tree) -> None:
    """A JSON-encoded value counts, and the built-in algorithm is not trained. C-104, C-012."""
    cancer.hyperparameters(sagemaker_program='"train.py"')

    assert job.main(cancer.environ) == 1

    assert cancer.failure.startswith("hyperparameter 'sagemaker_program'='train.py': the job has")
    assert cancer.model_files == []


def test_keys_of_algorithm_mode_train_as_ever(
    cancer: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys that ask for nothing, and switches that are off, neither fail a job nor warn. C-013."""
    cancer.hyperparameters(objective="binary:logistic", **OF_ALGORITHM_MODE)

    assert job.main(cancer.environ) == 0, cancer.failure

    assert "control_key_ignored" not in capsys.readouterr().out


def test_key_that_is_missed_or_unknown_is_named_in_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The job goes on: nothing about its model differs. C-013."""
    keys = {"sagemaker_s3_output": "s3://b", "sagemaker_enable_cloudwatch_metrics": "true"}

    control_keys.check(keys | {"sagemaker_of_tomorrow": "1"}, Settings())

    warned = _warned(caplog)
    assert sorted(warned) == sorted([*keys, "sagemaker_of_tomorrow"])
    assert warned["sagemaker_of_tomorrow"] == "it is not known"
    assert "uploaded by the platform" in warned["sagemaker_s3_output"]


@pytest.mark.parametrize(("text", "level"), [("10", 10), ("30", 30), ("ERROR", 40), ("0", 0)])
def test_log_level_of_the_job_is_used(text: str, level: int) -> None:
    """`container_log_level` of the estimator arrives as a hyperparameter. C-013."""
    control_keys.check({"sagemaker_container_log_level": text}, Settings())

    assert logging.getLogger().level == level
