"""The keys and variables that name a training script."""

import pytest

from container.errors import HyperparameterError, SettingsError
from container.settings import Settings
from train.script_mode import script_request


@pytest.mark.parametrize("value", ["", "null", "None", "false"])
def test_key_that_asks_for_nothing_is_no_request(value: str) -> None:
    """A built-in algorithm is trained (C-013)."""
    assert script_request.read({"sagemaker_program": value}, Settings()) is None


def test_program_is_that_of_the_variable_or_else_of_the_key() -> None:
    """The order of AWS's toolkit, by which an image can have a script of its own."""
    keys = {"sagemaker_program": "key.py", "sagemaker_submit_directory": "/opt/ml/a"}
    variables = Settings(program="variable.py", submit_directory="/opt/ml/b")

    both = script_request.read(keys, variables)
    by_key = script_request.read(keys, Settings())

    assert both is not None
    assert both.program.value == "variable.py"
    assert both.submit_directory is not None
    assert both.submit_directory.value == "/opt/ml/a"
    assert by_key is not None
    assert by_key.program.value == "key.py"


@pytest.mark.parametrize("name", ["sagemaker_submit_directory", "sagemaker_requirements"])
def test_sources_without_a_script_are_refused(name: str) -> None:
    """Training the built-in algorithm instead would be another model (C-104)."""
    with pytest.raises(HyperparameterError, match=f"{name}.*names no script: set sagemaker_prog"):
        script_request.read({name: "s3://bucket/x.tar.gz"}, Settings())
    with pytest.raises(SettingsError, match=r"SAGEMAKER_SUBMIT_DIRECTORY='/x'.*SAGEMAKER_PROGRAM"):
        script_request.read({}, Settings(submit_directory="/x"))
