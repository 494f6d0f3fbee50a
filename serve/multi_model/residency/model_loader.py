"""Loads models into a worker, or with their code into a process; called in threads."""

from functools import partial
from pathlib import Path

from container import cgroup
from container.errors import ModelLoadError, OutOfMemoryError, UserError
from container.settings import Settings
from serve import loading
from serve.invocation import Servable
from serve.model_process import model_process
from serve.model_process.code_model import CodeModel
from serve.model_process.model_process import ModelProcess
from serve.multi_model import model_files
from serve.multi_model.model_registry import OWN_CODE, Model, Registry


class ModelLoader:
    """Loads models that were admitted from the files that were admitted."""

    def __init__(self, server_directory: Path, registry: Registry, settings: Settings) -> None:
        """Args:
        server_directory: Holds the fork server's socket.
        registry: Keeps the crashes of models with code.
        settings: Of the server.
        """
        self._server_directory = server_directory
        self._registry = registry
        self._settings = settings

    def load(self, model: Model) -> Servable:
        """Load a model.

        Raises:
            ModelLoadError: the files are gone or have changed, or the model cannot be loaded.
            OutOfMemoryError: there is less free memory than when it was admitted.
        """
        if model.algorithm == OWN_CODE:
            return self.with_code(model, self._start(model))
        directory = self._directory(model)
        seen = _check(model, directory, model.signature)
        try:
            servable = loading.inspect(directory, self._settings, model_name=model.name).load()
        except (MemoryError, ModelLoadError) as error:
            if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
                raise OutOfMemoryError(
                    f"loading model {model.name} takes more memory than there is: "
                    f"{cgroup.memory_available_bytes() >> 20} of {cgroup.memory_bytes() >> 20} MiB "
                    "are free"
                ) from error
            raise
        _check(model, directory, seen)  # the files may have changed while they were read
        return servable

    def start(self, directory: Path, name: str) -> ModelProcess:
        """Start the process of a model with code, and wait until it is loaded."""
        return model_process.start(self._server_directory, directory, name, self._settings)

    def with_code(self, model: Model, process: ModelProcess) -> CodeModel:
        """Return a model with code, which is loaded in `process`."""
        return CodeModel(
            model.name,
            process,
            partial(self._start, model),
            note_crashes=partial(self._registry.note_crashes, model.generation),
        )

    def _start(self, model: Model) -> ModelProcess:
        directory = self._directory(model)
        seen = _check(model, directory, model.signature)
        process = self.start(directory, model.name)
        try:
            _check(model, directory, seen)
        except BaseException:
            process.close()
            raise
        return process

    def _directory(self, model: Model) -> Path:
        try:
            return model_files.directory_of(model.url, self._settings.model_roots)
        except UserError as error:
            raise ModelLoadError(f"the files of model {model.name} are gone") from error


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
