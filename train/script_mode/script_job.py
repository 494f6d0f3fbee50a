"""Job of the user's own training script: prepare it, run it, and keep the reason of its failure.

    sources -> requirements.txt -> meet the other hosts -> the script -> its exit code

The script writes `/opt/ml/model` and `/opt/ml/output` itself. On several hosts each runs it, once
all of them are there.
"""

import logging
import re
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from container import cgroup
from container.errors import JobConfigError, ScriptError
from container.opt_ml import OptMl, ResourceConfig
from container.redaction import mask
from container.settings import Settings
from train import out_of_memory
from train.script_mode import (
    entry_point,
    requirements_file,
    script_process,
    sm_environment,
    source_code,
)
from train.script_mode.script_process import Ended
from train.script_mode.script_request import ScriptRequest

logger = logging.getLogger(__name__)

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):")
_SIGKILL_CODE, _SIGTERM_CODE = 137, 143
_MAX_LINES = 20


def run(
    opt_ml: OptMl,
    settings: Settings,
    request: ScriptRequest,
    hyperparameters: Mapping[str, object],
    environ: Mapping[str, str],
    meet: Callable[[ResourceConfig], None],
) -> int:
    """Run the script to its end and return the exit code of the job.

    Args:
        hyperparameters: Content of `hyperparameters.json` as sent.
        environ: Environment of this process.
        meet: Waits for all hosts of the job.
    Raises:
        ScriptError: the script failed; with its exit code and the end of its stderr.
        ContainerError: it could not be started, for the reason given.
    """
    started = time.monotonic()
    _make_directories(opt_ml)
    directory = source_code.prepare(opt_ml, request)
    told = sm_environment.build(
        opt_ml,
        settings,
        request,
        hyperparameters,
        directory=directory,
        environ=environ,
        n_gpus=sm_environment.count_gpus(),
    )
    command = entry_point.command(directory, request.program, told.arguments)
    if not requirements_file.install(directory, request, told.environment):
        return _SIGTERM_CODE
    meet(opt_ml.resource_config())
    logger.info(
        "training_started",
        extra={"script": request.program.value, "hyperparameters": _shown(hyperparameters)},
    )
    n_kills = cgroup.memory_kills()
    try:
        ended = script_process.run(command, directory=directory, environment=told.environment)
    except (OSError, ValueError) as error:
        raise JobConfigError(
            f"the script {request.program.value!r} cannot be started: {error}; names of "
            "hyperparameters are without '=', and one variable has at most 128 KiB"
        ) from error
    facts = {
        "exit_code": ended.exit_code,
        "was_interrupted": ended.was_stopped,
        "duration_seconds": round(time.monotonic() - started, 3),
    }
    if ended.exit_code and not (ended.was_stopped and ended.exit_code == _SIGTERM_CODE):
        raise _failure(request.program.value, ended, is_memory=cgroup.memory_kills() > n_kills)
    files = sorted(p.relative_to(opt_ml.model_dir).as_posix() for p in _files(opt_ml.model_dir))
    if not files:
        reason = "the script wrote nothing into SM_MODEL_DIR, so there is no model to serve"
        logger.warning("model_directory_empty", extra={"reason": reason})
    logger.info("training_completed", extra={"files": files, **facts})
    return ended.exit_code


def _make_directories(opt_ml: OptMl) -> None:
    """Make the directories that the toolkit's scripts expect; the platform mounts the first."""
    intermediate = opt_ml.output_data_dir.with_name("intermediate")
    for directory in (opt_ml.model_dir, opt_ml.output_data_dir, intermediate):
        directory.mkdir(parents=True, exist_ok=True)


def _shown(hyperparameters: Mapping[str, object]) -> dict[str, str]:
    return mask({name: str(value) for name, value in hyperparameters.items()})


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _failure(script: str, ended: Ended, *, is_memory: bool) -> ScriptError:
    end = f"the script {script!r} ended with exit code {ended.exit_code}"
    lines = [line for line in ended.stderr if line.strip()]
    if ended.exit_code == _SIGKILL_CODE and not ended.was_stopped:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        cause = out_of_memory.message(peak, was_killed=True, is_certain=is_memory)
    else:
        cause = exception_line(lines) or "it wrote nothing to stderr; see the log"
    return ScriptError(f"{cause}; {end}", exit_code=ended.exit_code, stderr=lines[-_MAX_LINES:])


def exception_line(lines: Sequence[str]) -> str | None:
    """Return the line that names the cause: that of the last exception, or else the last line.

    An exception's message may have further lines, and other lines may follow.
    """
    starts = [index for index, line in enumerate(lines) if _TRACEBACK.match(line)]
    for line in lines[starts[-1] + 1 :] if starts else ():
        if not line.startswith((" ", "\t")):
            return line
    return lines[-1] if lines else None
