"""Validation of one model in a child of the fork server: verify, load, predict, measure."""

from pathlib import Path
from typing import Any

from container.errors import ModelLoadError
from container.settings import Settings
from serve import loading
from serve.loading import Artifact
from serve.multi_model.model_registry import Verdict
from serve.multi_model.residency import memory_budget
from serve.runtime import validation_run


def report(directory: Path, settings: Settings) -> dict[str, object]:
    """Validate a model, and return the report: see `validate`."""
    verdict = validate(directory, settings)
    return {"algorithm": verdict.algorithm, "n_bytes": verdict.n_bytes}


def validate(directory: Path, settings: Settings) -> Verdict:
    """Verify, load and predict; only for a process that may die of it.

    Returns:
        The algorithm's name, and by how many bytes this process has grown.
    Raises:
        ContainerError: what is wrong with the model.
    """
    artifact = loading.inspect(directory, settings)
    if not isinstance(artifact, Artifact):
        raise ModelLoadError("a script was added to the model meanwhile")
    records = artifact.algorithm.verify(artifact.directory, artifact.manifest)
    before = memory_budget.footprint()
    servable = artifact.load()
    model: Any = servable.model
    one = validation_run.one_record(model, artifact.manifest)
    model.predict(one)
    n_bytes = memory_budget.footprint().growth_since(before)
    in_blocks = servable.capabilities.predicts_row_blocks
    validation_run.predict_in_all_ways(model, one, records, in_blocks=in_blocks)
    return Verdict(servable.algorithm.name, n_bytes)
