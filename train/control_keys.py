"""Control keys: hyperparameters that steer AWS's training toolkit and not the algorithm.

The SDK adds some of them to every job, tuning jobs and script mode add others. Each key is

    used       `sagemaker_container_log_level`; those that name a training script, by
               `train/script_mode/script_request.py`; `_tuning_objective_metric`, by the algorithm
    ignored    this container behaves as the key asks without it
    refused    this container cannot do what the key asks: another model with exit code 0 would be
               wrong (C-104)

An unknown key is ignored with a warning (C-013).

Source: sagemaker-training-toolkit, `params.py`; sagemaker-python-sdk, `job.py` and `estimator.py`.
"""

import logging
from collections.abc import Mapping

from container.errors import HyperparameterError, SettingsError
from container.settings import Settings

logger = logging.getLogger(__name__)

_LOG_LEVEL = "sagemaker_container_log_level"
_LOG_LEVEL_VARIABLE = "SAGEMAKER_CONTAINER_LOG_LEVEL"
_SCRIPT = frozenset({"sagemaker_program", "sagemaker_submit_directory", "sagemaker_requirements"})
_USED = _SCRIPT | {_LOG_LEVEL}

# Switches of the toolkit's ways to start a script on several hosts; other frameworks have more.
_SWITCH_SUFFIX = "_enabled"
_HOST_CHOICES = frozenset({"sagemaker_distribution_instance_groups", "sagemaker_instance_groups"})

_HARMLESS = {
    "sagemaker_region": "nothing is fetched from S3",
    "sagemaker_job_name": "no output is named after the job",
    "sagemaker_instance_type": "CPUs and GPUs are counted on the host",
    "sagemaker_estimator_class_name": "it describes the SDK's side",
    "sagemaker_estimator_module": "it describes the SDK's side",
    "default_user_module_name": "sagemaker_program names the script",
    "sagemaker_mpi_num_of_processes_per_host": "it belongs to sagemaker_mpi_enabled",
    "sagemaker_mpi_custom_mpi_options": "it belongs to sagemaker_mpi_enabled",
    "sagemaker_distributed_dataparallel_custom_mpi_options": (
        "it belongs to sagemaker_distributed_dataparallel_enabled"
    ),
}
# These ask for something beside the model: the job goes on without it and warns.
_MISSED = {
    "sagemaker_s3_output": "results are uploaded by the platform when the job ends, and not before",
    "sagemaker_enable_cloudwatch_metrics": (
        "metrics are lines of the log; the MetricDefinitions of the job make them CloudWatch's"
    ),
}
_NOTHING = frozenset({"", "null", "none", "false", "0", "no", "off", "[]", "{}"})


def is_set(value: str) -> bool:
    """Return True if the value of a key asks for something."""
    return value.lower() not in _NOTHING


def check(keys: Mapping[str, str], settings: Settings) -> None:
    """Refuse keys that this container cannot honour; use or ignore all others.

    Args:
        keys: Control keys of `hyperparameters.json` as text.
        settings: Settings of the job, from its environment.
    Raises:
        HyperparameterError: a key is refused; the message names the remedy.
        SettingsError: an environment variable is refused.
    """
    for name, value in sorted(keys.items()):
        if not is_set(value):
            continue
        _refuse(name, value)
        if name in _HARMLESS:
            logger.debug("control_key_passed_over", extra={"key": name, "reason": _HARMLESS[name]})
        elif name not in _USED:
            reason = _MISSED.get(name, "it is not known")
            logger.warning("control_key_ignored", extra={"key": name, "reason": reason})
    if settings.training_module:
        raise SettingsError(
            "SAGEMAKER_TRAINING_MODULE",
            settings.training_module,
            "SAGEMAKER_PROGRAM to run a script of your own: the module of a framework, which "
            "would run the script by AWS's toolkit, is not in this image",
        )
    _set_log_level(keys.get(_LOG_LEVEL, ""))


def _refuse(name: str, value: str) -> None:
    if name.endswith(_SWITCH_SUFFIX):
        raise HyperparameterError(
            name,
            f"{value!r} asks for another way to start a script on the hosts, which this image has "
            "not; leave out 'distribution' of the estimator: the built-in algorithm trains one "
            "model on several hosts without it, and a script is run once on each (SM_HOSTS)",
        )
    if name in _HOST_CHOICES:
        raise HyperparameterError(
            name,
            f"{value!r} asks to train on some of the hosts only; leave it out: all hosts of the "
            "job train one model",
        )


def _set_log_level(text: str) -> None:
    if text.lower() in _NOTHING - {"0"}:
        return
    try:
        level = Settings.from_env({_LOG_LEVEL_VARIABLE: text}).log_level
    except SettingsError as error:
        accepted = str(error.message).partition("; ")[2]
        raise HyperparameterError(_LOG_LEVEL, f"{text!r} is not accepted; {accepted}") from error
    logging.getLogger().setLevel(level)
