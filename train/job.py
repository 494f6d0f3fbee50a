"""Training job, top to bottom, and the boundary where errors become a failure file.

    read /opt/ml/input/config -> check hyperparameters -> open channels -> fit -> save the model

A job that names the user's own script goes another way after the first step
(`train/script_mode/script_job.py`).

Exit codes: 0 the model is saved; 1 the job failed and `/opt/ml/output/failure` says why; 143
SIGTERM stopped the job, and the model of the finished rounds is saved, if any were finished. A
script's exit code is that of the job.
`train/supervisor.py` runs this in a child and returns its exit code.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NoReturn

from container import cgroup, hyperparameters, logs, manifest
from container.algorithms import registry
from container.algorithms.contract import Algorithm
from container.algorithms.training_contract import (
    Channel,
    Checkpoints,
    Cluster,
    NoCheckpoints,
    TableChannel,
    TrainedModel,
    TrainingInput,
)
from container.errors import (
    AlgorithmError,
    ContainerError,
    JobConfigError,
    PackageMissingError,
    PlatformError,
    ScriptError,
    SettingsError,
)
from container.manifest import ModelManifest
from container.opt_ml import NO_SPACE, OptMl, ResourceConfig, replace_files
from container.redaction import Redactor, mask
from container.settings import Settings, base_dir
from train import control_keys, metric_lines, out_of_memory, results, saved_model
from train.checkpoints import CheckpointDirectory, Schedule
from train.distributed import cluster
from train.input import fingerprint
from train.input.channel import StoredChannel
from train.input.libsvm_base import LibsvmBase
from train.input.open_channels import open_channels, open_tables
from train.input.scratch import Scratch
from train.input.tables.stored_table import StoredTable
from train.interruption import EXIT_CODE, Interruption
from train.metric_lines import Recorder
from train.script_mode import script_job, script_request

logger = logging.getLogger(__name__)


def main(environ: Mapping[str, str]) -> int:
    """Run the job that `/opt/ml/input/config` describes and return the exit code."""
    interruption, redact = Interruption(), Redactor(environ)
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        logs.configure(Settings().log_level, redact)
        return _fail(OptMl(base_dir(environ)), error, redact)
    logs.configure(settings.log_level, redact)
    registry.use_directory(settings.algorithm_dir)
    opt_ml = OptMl(settings.base_dir)
    try:
        _reserve_failure(opt_ml)
        given = opt_ml.hyperparameters()
        redact.learn(hyperparameters.plain(given))
        keys = hyperparameters.control(given)
        control_keys.check(keys, settings)
        if script := script_request.read(keys, settings):
            meet = partial(_meet, opt_ml, settings, redact)
            return script_job.run(opt_ml, settings, script, given, environ, meet)
        interruption.install()
        run(opt_ml, settings, hyperparameters.plain(given), interruption, redact)
    # The only boundary: every failure leaves a reason, also an algorithm's sys.exit(0).
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001
        return _fail(opt_ml, error, redact)
    finally:
        interruption.end()
        opt_ml.release_reserve()
    return EXIT_CODE if interruption.was_requested else 0


def run(
    opt_ml: OptMl,
    settings: Settings,
    given: dict[str, str],
    interruption: Interruption,
    redact: Redactor,
) -> None:
    """Train an algorithm of this container and leave the model in `/opt/ml/model`.

    Args:
        given: Hyperparameters as text, without control keys.
    Raises:
        ContainerError: there is no model, for the reason given; the model directory is unchanged.
    """
    started = time.monotonic()
    algorithm = registry.get(given.pop("algorithm", settings.algorithm))
    checked = hyperparameters.validate(algorithm.hyperparameters(), given)
    resources = _resources(opt_ml, algorithm)
    recorder = Recorder()
    end = partial(_end, opt_ml, redact)
    with cluster.join(resources, settings, explain=_as_container_error, end=end) as hosts:
        scratch = Scratch(opt_ml.base_dir)
        libsvm_base = LibsvmBase(hosts.gather)
        columns = algorithm.columns(checked)
        channels: dict[str, StoredChannel] = {}
        tables: dict[str, StoredTable] = {}
        if algorithm.trains_on_tables():
            tables = open_tables(opt_ml, algorithm, columns)
        else:
            channels = open_channels(opt_ml, algorithm, columns, scratch, hosts, libsvm_base)
        put_in_place = partial(_put_in_place, opt_ml, algorithm, libsvm_base, channels, tables)
        if resources.is_leader:
            interruption.save_with(put_in_place)
        logger.info(
            "training_started", extra={"algorithm": algorithm.name, "hyperparameters": mask(given)}
        )
        model = algorithm.fit(
            TrainingInput(
                hyperparameters=checked,
                channels=channels,
                tables=tables,
                report=recorder.report if resources.is_leader else metric_lines.keep_silent,
                announce=metric_lines.announce,
                n_threads=cgroup.cpu_count(),
                interruption=interruption,
                scratch=scratch,
                cluster=hosts,
                checkpoints=_checkpoints(
                    opt_ml, settings, (*channels, *tables), recorder, libsvm_base, started, hosts
                ),
                output_dir=opt_ml.output_data_dir,
            )
        )
        interruption.begin_saving()
        facts: dict[str, object] = {}
        if interruption.was_requested and not interruption.leaves_model:
            logger.info("model_not_saved", extra={"reason": "the job asks for none when stopped"})
        elif resources.is_leader:
            saved = put_in_place(model)
            facts = _describe(opt_ml, saved, model, recorder)
        hosts.barrier()  # the job is done on all hosts or on none
    facts["was_interrupted"] = interruption.was_requested
    facts["duration_seconds"] = round(time.monotonic() - started, 3)
    logger.info("training_completed", extra=facts)


def _describe(
    opt_ml: OptMl, saved: ModelManifest, model: TrainedModel, recorder: Recorder
) -> dict[str, object]:
    """Write the result files of the job and return facts about the model for the log."""
    results.write(opt_ml.output_data_dir, recorder.history, saved.model.best_iteration, model)
    return {
        "files": sorted(saved.files),
        "n_features": saved.model.n_features,
        "best_iteration": saved.model.best_iteration,
    }


def _put_in_place(
    opt_ml: OptMl,
    algorithm: Algorithm,
    libsvm_base: LibsvmBase,
    channels: Mapping[str, Channel],
    tables: Mapping[str, TableChannel],
    model: TrainedModel,
) -> ModelManifest:
    with replace_files(opt_ml.model_dir, last=manifest.MANIFEST_FILE) as staging:
        return saved_model.save(
            algorithm,
            model,
            staging,
            libsvm_base=libsvm_base.value,
            channels=channels,
            tables=tables,
        )


def _checkpoints(
    opt_ml: OptMl,
    settings: Settings,
    channels: Iterable[str],
    recorder: Recorder,
    libsvm_base: LibsvmBase,
    started: float,
    hosts: Cluster,
) -> Checkpoints:
    directory = opt_ml.checkpoint_dir()
    own: dict[str, str] = {}
    if directory is not None:
        own = {name: fingerprint.of_channel(opt_ml.data_dir / name) for name in channels}
    gathered = hosts.gather(own)
    if directory is None or hosts.rank:
        return NoCheckpoints(is_on=directory is not None)  # others train as the first host does
    limit = settings.max_runtime_seconds
    return CheckpointDirectory(
        directory,
        data={
            name: fingerprint.of_hosts([host.get(name, "") for host in gathered]) for name in own
        },
        recorder=recorder,
        schedule=Schedule(settings.checkpoint_seconds, end_time=started + limit if limit else None),
        libsvm_base=libsvm_base,
    )


def _resources(opt_ml: OptMl, algorithm: Algorithm) -> ResourceConfig:
    resources = opt_ml.resource_config()
    if len(resources.hosts) > 1 and not algorithm.is_distributed:
        raise JobConfigError(
            f"resourceconfig.json names {len(resources.hosts)} hosts; algorithm "
            f"{algorithm.name!r} trains on one: set InstanceCount to 1"
        )
    return resources


def _meet(opt_ml: OptMl, settings: Settings, redact: Redactor, resources: ResourceConfig) -> None:
    """Wait until all hosts are there and can look each other up.

    A host whose script is quick would otherwise be gone before another has looked it up.
    """
    end = partial(_end, opt_ml, redact)
    with cluster.join(resources, settings, explain=_as_container_error, end=end) as hosts:
        cluster.await_names(resources, settings)
        hosts.barrier()


def _end(opt_ml: OptMl, redact: Redactor, error: ContainerError) -> NoReturn:
    """Report the failure and end the process, from any thread.

    The main thread may be waiting inside a framework for a host that is lost.
    """
    code = _fail(opt_ml, error, redact)
    sys.stdout.flush()
    os._exit(code)


def _as_container_error(error: BaseException) -> ContainerError:
    """Convert an exception to an error whose message the job owner can act on."""
    if isinstance(error, ContainerError):
        return error
    if isinstance(error, MemoryError):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return PlatformError(out_of_memory.message(usage.ru_maxrss, was_killed=False))
    if isinstance(error, ModuleNotFoundError):
        return PackageMissingError(error.name or str(error))
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = f" ({error.filename})" if error.filename else ""
        return PlatformError(
            f"no space left on a disk{where}: {error.strerror}; use a larger volume "
            "(VolumeSizeInGB)"
        )
    if isinstance(error, OSError):
        return PlatformError(f"{error.strerror or error}: {error.filename or 'no file'}")
    return AlgorithmError(f"internal error: {type(error).__name__}: {error}")


def _reserve_failure(opt_ml: OptMl) -> None:
    """Reserve disk space for the failure file, as the supervisor normally has done.

    On a full disk a job could not write its reason otherwise.
    """
    try:
        opt_ml.reserve_failure()
    except OSError as error:
        facts = {"reason": error.strerror or str(error)}
        logger.warning("failure_file_not_reserved", extra=facts)


def _fail(opt_ml: OptMl, cause: BaseException, redact: Redactor) -> int:
    """Write the reason to the log and the failure file, a traceback to the log only."""
    error = _as_container_error(cause)
    logger.error(
        "training_failed",
        extra={"code": error.code, "reason": error.message, "details": error.details},
        exc_info=None if error is cause else cause,
    )
    try:
        stderr = error.stderr if isinstance(error, ScriptError) else ()
        opt_ml.write_failure(redact(error.message), [redact(line) for line in stderr])
    except OSError as failure_error:
        logger.error("failure_file_not_written", extra={"reason": str(failure_error)})  # noqa: TRY400
        print(f"training failed: {redact(error.message)}", file=sys.stderr, flush=True)
    return error.exit_code if isinstance(error, ScriptError) else 1
