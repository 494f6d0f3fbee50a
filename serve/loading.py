"""From the model directory to something that can be invoked."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from container import content_types, manifest
from container.algorithms import registry
from container.algorithms.base import Algorithm
from container.errors import ModelLoadError, SettingsError
from container.manifest import ModelManifest
from serve.invocation import ModelServable, Servable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model artifact whose algorithm is known and that is not loaded yet."""

    directory: Path
    algorithm: Algorithm
    manifest: ModelManifest | None
    default_accept: str

    def load(self) -> Servable:
        """Load the model; raises `ModelLoadError`."""
        started = time.monotonic()
        model = self.algorithm.load(self.directory, self.manifest)
        logger.info(
            "model_loaded",
            extra={
                "algorithm": self.algorithm.name,
                "n_features": model.n_features,
                "has_manifest": self.manifest is not None,
                "duration_seconds": round(time.monotonic() - started, 4),
            },
        )
        return ModelServable(self.algorithm, model, self.default_accept)


def inspect(model_dir: Path, default_accept: str | None) -> Artifact:
    """Find out what lies in `model_dir`, which is only read.

    Args:
        model_dir: What the platform unpacked, or training left.
        default_accept: The answer to `*/*`, as SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT gives it, or
            None for the algorithm's own.
    Raises:
        ModelLoadError: there is no model, or it is not what its manifest says.
        SettingsError: the algorithm does not write `default_accept`.
    """
    if not model_dir.is_dir():
        raise ModelLoadError(
            f"there is no directory {model_dir}; mount a trained model there, or train first"
        )
    described = manifest.read(model_dir)
    algorithm = registry.for_artifact(model_dir, described)
    accept = algorithm.response_types[0]
    if default_accept is not None:
        accept = content_types.parse(default_accept).name
        if accept not in algorithm.response_types:
            raise SettingsError(
                "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
                default_accept,
                f"one of {', '.join(algorithm.response_types)}",
            )
    return Artifact(model_dir, algorithm, described, accept)
