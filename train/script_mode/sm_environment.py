"""Arguments and `SM_*` variables of a training script, those of AWS's training toolkit.

A hyperparameter whose text is JSON is decoded: `"0.1"` is a number, `"[1, 2]"` a list. The script
gets it as `--name value`, sorted by name, and as SM_HP_NAME; all of them as JSON in SM_HPS.

Source: sagemaker-training-toolkit, modules `environment` and `mapping`. Different here: SM_NUM_CPUS
counts the CPUs that the control group grants, and what only AWS's MPI and Neuron tools need is off.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import container
from container import cgroup
from container.opt_ml import OptMl
from container.settings import Settings
from train.script_mode.script_request import ScriptRequest

_PREFIX = "sagemaker_"
_CONTROL_KEYS = frozenset({"default_user_module_name", "_tuning_objective_metric"})
# Keys of the toolkit itself; other `sagemaker_*` keys are parameters of a framework.
_TOOLKIT_KEYS = _CONTROL_KEYS | {
    f"{_PREFIX}{name}"
    for name in (
        *("program", "submit_directory", "enable_cloudwatch_metrics", "region"),
        *("container_log_level", "job_name", "s3_output"),
    )
}
_PROGRAM_DIR = Path(container.__file__).parents[1]
_DEFAULT_GROUP = "homogeneousCluster"


@dataclass(frozen=True, slots=True)
class ScriptInput:
    """Everything that a script is told.

    Args:
        arguments: Command-line arguments.
        environment: Its whole environment.
    """

    arguments: list[str]
    environment: dict[str, str]


def build(
    opt_ml: OptMl,
    settings: Settings,
    request: ScriptRequest,
    hyperparameters: Mapping[str, object],
    *,
    directory: Path,
    environ: Mapping[str, str],
    n_gpus: int,
) -> ScriptInput:
    """Describe the job for its script.

    Args:
        hyperparameters: Content of `hyperparameters.json` as sent.
        directory: Sources of the script.
        environ: Environment of this process, which the script's is based on.
        n_gpus: See `count_gpus`.
    Raises:
        JobConfigError: a file under `/opt/ml/input/config` has another form than the platform's.
    """
    decoded = {name: _decoded(value) for name, value in hyperparameters.items()}
    user = {name: value for name, value in decoded.items() if not _is_control(name)}
    arguments = to_arguments(user)
    facts = {
        **_facts(opt_ml, settings, request, decoded),
        "hyperparameters": user,
        "num_gpus": n_gpus,
    }
    variables = {
        **_job_variables(facts),
        "hps": user,
        "user_args": arguments,
        "training_env": facts,
        **{f"channel_{name}": path for name, path in facts["channel_input_dirs"].items()},
        **{f"hp_{name}": value for name, value in user.items()},
    }
    environment = {
        **_inherited(environ, directory),
        "CURRENT_HOST": facts["current_host"],
        "SAGEMAKER_JOB_NAME": _text(decoded.get(f"{_PREFIX}job_name")),
        "SAGEMAKER_REGION": _text(decoded.get(f"{_PREFIX}region") or environ.get("AWS_REGION")),
        **{f"SM_{name.upper()}": _text(value) for name, value in variables.items()},
    }
    return ScriptInput(arguments, environment)


def to_arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return `--name value` for each hyperparameter, sorted by name; `-n` for one letter.

    Values are written as Python writes them (`True`, `[1, 2]`), None as nothing, and an object as
    `key=value` with commas.
    """
    arguments = []
    for name, value in sorted(hyperparameters.items()):
        if isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in sorted(value.items()))
        option = f"--{name}" if len(name) > 1 else f"-{name}"
        arguments += [option if name else "", "" if value is None else str(value)]
    return arguments


def count_gpus() -> int:
    """Return the number of GPUs that the driver lists; 0 without a driver."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"],  # noqa: S607  where the driver puts it
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def _is_control(name: str) -> bool:
    return name.startswith(_PREFIX) or name in _CONTROL_KEYS


def _decoded(value: object) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _text(value: object) -> str:
    """Return the text of a variable: strings as they are, everything else as compact JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _facts(
    opt_ml: OptMl, settings: Settings, request: ScriptRequest, decoded: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the facts of SM_TRAINING_ENV, under the toolkit's names."""
    program = request.program.value
    submitted = request.submit_directory
    channels = sorted(opt_ml.channels())
    return {
        **_host_facts(opt_ml),
        "additional_framework_parameters": {
            name: value
            for name, value in decoded.items()
            if name.startswith(_PREFIX) and name not in _TOOLKIT_KEYS
        },
        "channel_input_dirs": {name: str(opt_ml.data_dir / name) for name in channels},
        "framework_module": settings.training_module,
        "input_config_dir": str(opt_ml.base_dir / "input" / "config"),
        "input_data_config": opt_ml.config("inputdataconfig.json") or {n: {} for n in channels},
        "input_dir": str(opt_ml.base_dir / "input"),
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": settings.job_name,
        "log_level": decoded.get(f"{_PREFIX}container_log_level", 20),
        "model_dir": str(opt_ml.model_dir),
        "module_dir": submitted.value if submitted else str(opt_ml.code_dir),
        "module_name": program.removesuffix(".py"),
        "num_cpus": cgroup.cpu_count(),
        "num_neurons": 0,
        "output_data_dir": str(opt_ml.output_data_dir),
        "output_dir": str(opt_ml.output_data_dir.parent),
        "output_intermediate_dir": str(opt_ml.output_data_dir.parent / "intermediate"),
        "user_entry_point": program,
    }


def _host_facts(opt_ml: OptMl) -> dict[str, Any]:
    hosts = opt_ml.resource_config()
    config = opt_ml.config("resourceconfig.json") or {
        "current_host": hosts.current_host,
        "hosts": list(hosts.hosts),
    }
    group = config.get("current_group_name", _DEFAULT_GROUP)
    groups = config.get("instance_groups") or []
    by_name = {
        entry.get("instance_group_name"): entry
        for entry in (groups if isinstance(groups, list) else [])
        if isinstance(entry, dict)
    }
    first = min(hosts.hosts)
    return {
        "current_host": hosts.current_host,
        "current_instance_group": group,
        "current_instance_group_hosts": by_name.get(group, {}).get("hosts", list(hosts.hosts)),
        "current_instance_type": config.get("current_instance_type", "local"),
        "distribution_hosts": [],
        "distribution_instance_groups": [],
        "hosts": list(hosts.hosts),
        "instance_groups": list(by_name),
        "instance_groups_dict": by_name,
        "is_hetero": len(by_name) > 1,
        "is_master": hosts.is_leader,
        "master_hostname": first,
        "network_interface_name": config.get("network_interface_name", "eth0"),
        "resource_config": config,
        "topology": config.get("topology", []),
    }


def _job_variables(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that also have a variable of their own."""
    names = (
        *("current_host", "current_instance_group", "current_instance_group_hosts"),
        *("current_instance_type", "distribution_instance_groups", "framework_module", "hosts"),
        *("input_config_dir", "input_data_config", "input_dir", "instance_groups"),
        *("instance_groups_dict", "is_hetero", "log_level", "model_dir", "module_dir"),
        *("module_name", "network_interface_name", "num_cpus", "num_gpus", "num_neurons"),
        *("output_data_dir", "output_dir", "output_intermediate_dir", "resource_config"),
        "user_entry_point",
    )
    variables = {name: facts[name] for name in names}
    variables["channels"] = list(facts["channel_input_dirs"])
    variables["framework_params"] = facts["additional_framework_parameters"]
    if facts["topology"]:
        variables["topology"] = facts["topology"]
    return variables


def _inherited(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment without our modules: a script finds its own and those installed."""
    paths = environ.get("PYTHONPATH", "").split(":")
    others = [path for path in paths if path and Path(path).resolve() != _PROGRAM_DIR.resolve()]
    source = [str(directory / "src")] if (directory / "src").is_dir() else []
    return {
        "PYTHONUNBUFFERED": "1",
        **{name: value for name, value in environ.items() if name != "PYTHONSAFEPATH"},
        "PYTHONPATH": ":".join([str(directory), *source, *others]),
    }
