"""Loading: from a model directory to a `Servable`."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from container import content_types, manifest
from container.algorithms import registry
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import ServingOptions
from container.errors import ModelLoadError, PackageMissingError, SettingsError
from container.host_paths import shorten
from container.manifest import ModelManifest
from container.schema import Schema
from container.settings import Settings
from serve.invocation import ModelServable, Servable, answer_types
from serve.runtime import validation_run
from serve.user_code import context, default_codecs, script_loader
from serve.user_code.script_artifact import ScriptArtifact

logger = logging.getLogger(__name__)


class Loadable(Protocol):
    """A model artifact that was inspected and is not loaded yet."""

    @property
    def is_fork_safe(self) -> bool:
        """True if it may be loaded before the workers are forked, and shared by them."""

    def load(self) -> Servable:
        """Load the model; raises `ModelLoadError`."""

    def validate(self) -> None:
        """Validate the model: verify, load and predict once, in a process that may crash."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model artifact of a known algorithm, not loaded yet."""

    directory: Path
    algorithm: Algorithm
    manifest: ModelManifest | None
    default_accept: str
    settings: Settings

    @property
    def is_fork_safe(self) -> bool:
        return self.algorithm.capabilities.is_fork_safe

    def load(self) -> ModelServable:
        """Load the model; raises `ModelLoadError`."""
        started = time.monotonic()
        options = ServingOptions(ensemble=self.settings.ensemble)
        try:
            model = self.algorithm.load(self.directory, self.manifest, options)
        except ModuleNotFoundError as error:
            missing = PackageMissingError(error.name or str(error))
            raise ModelLoadError(missing.message) from error
        logger.info(
            "model_loaded",
            extra={
                "algorithm": self.algorithm.name,
                "n_features": getattr(model, "n_features", None),
                "has_manifest": self.manifest is not None,
                "libsvm_base": "per request" if self.libsvm_base is None else self.libsvm_base,
                "duration_seconds": round(time.monotonic() - started, 4),
            },
        )
        return ModelServable(
            self.algorithm,
            model,
            self.default_accept,
            self.settings.output_keys,
            self.settings.is_batch,
            self.libsvm_base,
            self._schema(),
        )

    def _schema(self) -> Schema | None:
        if self.algorithm.records != "table":
            return None
        schema = self.manifest.model.records if self.manifest else None
        if schema is None:
            raise ModelLoadError(
                f"the records of algorithm {self.algorithm.name!r} are a table, and no manifest "
                "says which columns the model takes; train it here, or write model.records into "
                f"{manifest.MANIFEST_FILE}"
            )
        return schema

    @property
    def libsvm_base(self) -> int | None:
        """See `container.codecs.records.Columns`."""
        return _libsvm_base(self.manifest, self.settings)

    def validate(self) -> None:
        """Verify, load and predict; see `validation_run.validate_model`."""
        validation_run.validate_model(
            self.algorithm,
            self.directory,
            self.manifest,
            ServingOptions(ensemble=self.settings.ensemble),
        )


def inspect(
    model_dir: Path, settings: Settings, *, model_name: str = context.MODEL_NAME
) -> Loadable:
    """Find a script or an algorithm's model in a model directory, which is only read.

    Args:
        model_dir: The directory.
        settings: Of the server.
        model_name: The name that a user's code gets.
    Raises:
        ModelLoadError: there is no model and no script, or the files differ from the manifest.
        SettingsError: the algorithm cannot write the outputs or the format of the settings.
    """
    try:
        return _inspect(model_dir, settings, model_name)
    except OSError as error:
        problem = f"{error.filename or model_dir} cannot be read: {error.strerror}"
        raise ModelLoadError(shorten(problem, model_dir)) from error


def _inspect(model_dir: Path, settings: Settings, model_name: str) -> Loadable:
    if not model_dir.is_dir():
        raise ModelLoadError(
            f"there is no directory {shorten(str(model_dir))}; mount a trained model there, or "
            "train first"
        )
    described = manifest.read(model_dir)
    script = _script(model_dir, settings)
    script_loader.warn_of_unused(model_dir, script, settings.submit_directory)
    if script is not None:
        return _of_script(model_dir, script, described, settings, model_name)
    algorithm = registry.for_artifact(model_dir, described)
    for key in settings.output_keys:
        if key not in algorithm.output_keys:
            raise SettingsError(
                "SAGEMAKER_INFERENCE_OUTPUT",
                key,
                f"some of {', '.join(algorithm.output_keys) or 'nothing, with this algorithm'}",
            )
    accept = _default_accept(algorithm, settings)
    return Artifact(model_dir, algorithm, described, accept, settings)


def brings_code(model_dir: Path, settings: Settings) -> bool:
    """True if the model directory has a script, which `inspect` then finds.

    Raises:
        ModelLoadError: the script that SAGEMAKER_PROGRAM names does not exist.
    """
    return _script(model_dir, settings) is not None


def _script(model_dir: Path, settings: Settings) -> Path | None:
    # With many models, SAGEMAKER_PROGRAM names the script of those that have code.
    has_code = script_loader.has_code(model_dir, settings.submit_directory)
    program = settings.program if has_code or not settings.is_multi_model else None
    return script_loader.find(model_dir, program, settings.submit_directory)


def _of_script(
    model_dir: Path,
    script: Path,
    described: ModelManifest | None,
    settings: Settings,
    model_name: str,
) -> ScriptArtifact:
    if settings.output_keys:
        reason = "SAGEMAKER_INFERENCE_OUTPUT selects nothing where a script answers; use output_fn"
        logger.warning("setting_not_used", extra={"reason": reason})
    return ScriptArtifact(
        model_dir,
        script,
        described,
        settings.default_accept or default_codecs.RESPONSE_TYPES[0],
        ServingOptions(ensemble=settings.ensemble),
        is_batch=settings.is_batch,
        libsvm_base=_libsvm_base(described, settings),
        model_name=model_name,
    )


def _libsvm_base(described: ModelManifest | None, settings: Settings) -> int | None:
    """The number of the first libsvm column; None if requests decide, as in AWS's image (C-101).

    The base of the training data takes precedence over the operator's setting.
    """
    if described is None:
        return settings.libsvm_base
    if described.libsvm_base is not None:
        return described.libsvm_base
    return settings.libsvm_base or 0


def _default_accept(algorithm: Algorithm, settings: Settings) -> str:
    offered = answer_types(algorithm, settings.output_keys)
    if settings.default_accept is None:
        # As AWS's images: JSON with many models, CSV with one.
        prefers_json = settings.is_multi_model and content_types.JSON in offered
        return content_types.JSON if prefers_json else offered[0]
    accept = content_types.parse(settings.default_accept).name
    if accept not in offered:
        selected = " with SAGEMAKER_INFERENCE_OUTPUT" if settings.output_keys else ""
        raise SettingsError(
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
            settings.default_accept,
            f"one of {', '.join(offered)}{selected}",
        )
    return accept
