"""Loads a model that was admitted into this worker; called in a thread."""

from pathlib import Path

from container import cgroup
from container.errors import ModelLoadError, OutOfMemoryError, UserError
from container.settings import Settings
from serve import loading
from serve.invocation import Servable
from serve.multi_model import model_files
from serve.multi_model.model_registry import Model


def load(model: Model, settings: Settings) -> Servable:
    """Load a model from the files that were admitted.

    Raises:
        ModelLoadError: the files are gone or have changed, or the model cannot be loaded.
        OutOfMemoryError: this worker has less free memory than the validation run had.
    """
    try:
        directory = model_files.directory_of(model.url, settings.model_roots)
    except UserError as error:
        raise ModelLoadError(f"the files of model {model.name} are gone") from error
    seen = _check(model, directory, model.signature)
    try:
        servable = loading.inspect(directory, settings, model_name=model.name).load()
    except (MemoryError, ModelLoadError) as error:
        # The exception of a user's code is the cause of the error.
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise OutOfMemoryError(
                f"loading model {model.name} takes more memory than there is: "
                f"{cgroup.memory_available_bytes() >> 20} of {cgroup.memory_bytes() >> 20} MiB "
                "are free"
            ) from error
        raise
    _check(model, directory, seen)  # the files may have changed while they were read
    return servable


def _check(model: Model, directory: Path, known: str) -> str:
    """Return the signature of the files; raises `ModelLoadError` if they have changed.

    Args:
        known: A signature of the admitted files; where the present one differs, digests decide.
    """
    signature = model_files.signature(directory)
    if signature != known and model_files.digest(directory) != model.digest:
        raise ModelLoadError(
            f"the files of model {model.name} have changed since it was loaded; unload it and load "
            "it again to serve them"
        )
    return signature
