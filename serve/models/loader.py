"""Loads a model that was admitted into this worker; called in a thread."""

from container.errors import ModelLoadError, UserError
from container.settings import Settings
from serve import loading
from serve.invocation import Servable
from serve.models import artifact
from serve.models.catalogue import roots
from serve.models.registry import Model


def load(model: Model, settings: Settings) -> Servable:
    """Load a model from the files that were admitted.

    Raises:
        ModelLoadError: they are gone, or are others now; or what loading raises.
    """
    try:
        directory = artifact.directory_of(model.url, roots(settings))
    except UserError as error:
        raise ModelLoadError(f"the files of model {model.name} are gone") from error
    if artifact.signature(directory) != model.signature and artifact.digest(directory) != (
        model.digest
    ):
        raise ModelLoadError(
            f"the files of model {model.name} have changed since it was loaded; unload it and load "
            "it again to serve them"
        )
    return loading.inspect(directory, settings, model_name=model.name).load()
