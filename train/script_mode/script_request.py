"""The user's own training script, as a job asks for it.

AWS's training toolkit is steered by hyperparameters, which the SDK sets, and by variables, which an
image or the job's Environment sets:

    SAGEMAKER_PROGRAM            or else sagemaker_program            the script
    sagemaker_submit_directory   or else SAGEMAKER_SUBMIT_DIRECTORY   its sources
    sagemaker_requirements                                            a list of packages

Source: sagemaker-training-toolkit, modules `params` and `environment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from container.errors import HyperparameterError, JobConfigError, SettingsError
from container.settings import Settings
from train import control_keys

PROGRAM = "sagemaker_program"
SUBMIT_DIRECTORY = "sagemaker_submit_directory"
REQUIREMENTS = "sagemaker_requirements"
DEFAULT_REQUIREMENTS = "requirements.txt"

_NO_PROGRAM = "it asks for training code, and the job names no script: set sagemaker_program too"


@dataclass(frozen=True, slots=True)
class Option:
    """One value of the request, with its origin for messages."""

    value: str
    origin: str

    def error(self, problem: str) -> JobConfigError:
        """Return the error that names the key or variable and its value."""
        return JobConfigError(f"{self.origin}={self.value!r}: {problem}")


@dataclass(frozen=True, slots=True)
class ScriptRequest:
    """Script, sources and requirements file of a job; absent options are None."""

    program: Option
    submit_directory: Option | None
    requirements: Option | None


def read(keys: Mapping[str, str], settings: Settings) -> ScriptRequest | None:
    """Return the script that the job asks for; None for a job of a built-in algorithm.

    Args:
        keys: Control keys of `hyperparameters.json` as text.
        settings: Settings of the job, from its environment.
    Raises:
        HyperparameterError, SettingsError: there are sources or requirements, but no script.
    """
    by_key = {
        name: Option(keys[name], f"hyperparameter {name!r}")
        for name in (PROGRAM, SUBMIT_DIRECTORY, REQUIREMENTS)
        if control_keys.is_set(keys.get(name, ""))
    }
    program = _variable("SAGEMAKER_PROGRAM", settings.program) or by_key.get(PROGRAM)
    submit_variable = _variable("SAGEMAKER_SUBMIT_DIRECTORY", settings.submit_directory)
    if program is not None:
        return ScriptRequest(
            program, by_key.get(SUBMIT_DIRECTORY) or submit_variable, by_key.get(REQUIREMENTS)
        )
    for name in by_key:
        raise HyperparameterError(name, f"{by_key[name].value!r}: {_NO_PROGRAM}, or leave it out")
    if submit_variable is not None:
        raise SettingsError(
            "SAGEMAKER_SUBMIT_DIRECTORY",
            submit_variable.value,
            "SAGEMAKER_PROGRAM with it to name the script, or leave it out to train the built-in "
            "algorithm",
        )
    return None


def _variable(name: str, value: str | None) -> Option | None:
    return Option(value, f"environment variable {name}") if value else None
