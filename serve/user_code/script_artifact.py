"""Model artifact with a script: loads the script, then the model."""

import io
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from container import content_types
from container.algorithms import registry
from container.algorithms.serving_contract import ServingOptions
from container.errors import ModelLoadError
from container.host_paths import shorten
from container.manifest import ModelManifest
from serve.invocation import feature_names
from serve.user_code import default_predict, script_loader, toolkit_functions
from serve.user_code.context import MODEL_NAME, Context
from serve.user_code.servable import Loaded, ScriptServable
from serve.user_code.toolkit_functions import UserFunctions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScriptArtifact:
    """A model artifact with a script, neither of which is loaded yet."""

    is_fork_safe: ClassVar[bool] = False

    directory: Path
    script: Path
    manifest: ModelManifest | None
    default_accept: str
    options: ServingOptions  # for a model that an algorithm loads
    is_batch: bool = False  # answers of a batch transform are joined byte by byte
    libsvm_base: int | None = 0  # see `container.codecs.records.Columns`
    model_name: str = MODEL_NAME

    def load(self) -> ScriptServable:
        """Load the script and the model, in the process that will run them.

        Raises:
            ModelLoadError: the user's code cannot be used, or failed; its exception is the cause.
            SettingsError: no encoder writes `default_accept`.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # the log has prints of the code at once
        started = time.monotonic()
        code_dir = script_loader.code_directory(self.script, self.directory)
        name = self.script.relative_to(self.directory).as_posix()
        module = self._run(f"{name} cannot be loaded", script_loader.load, self.script, code_dir)
        functions = toolkit_functions.find(module, name)
        described = self.manifest.model_dump() if self.manifest else {}
        context = Context(self.directory, described, self.model_name)
        loaded = self._load_model(functions, context, name)
        facts = {
            "script": name,
            "model": type(loaded.model).__name__,
            "has_manifest": self.manifest is not None,
            "libsvm_base": "per request" if self.libsvm_base is None else self.libsvm_base,
            "duration_seconds": round(time.monotonic() - started, 4),
        }
        logger.info("model_loaded", extra=facts)
        return ScriptServable(
            functions,
            loaded,
            context,
            self.default_accept,
            is_batch=self.is_batch,
            libsvm_base=self.libsvm_base,
            facts=facts,
        )

    def validate(self) -> None:
        """Do nothing: the code runs in the process that serves, and only there."""

    def _load_model(self, functions: UserFunctions, context: Context, name: str) -> Loaded:
        directory = str(self.directory)
        if functions.pre_model_fn:
            self._run(f"{name}: pre_model_fn failed", functions.pre_model_fn, context, directory)
        if functions.model_fn:
            model = self._run(f"{name}: model_fn failed", functions.model_fn, context, directory)
            if not (functions.predict_fn or functions.transform_fn):
                default_predict.check_user_model(model)
            predict, names = default_predict.for_user_model(model)
            loaded = Loaded(model, predict, content_types.CSV, names)
        else:
            loaded = self._load_with_algorithm(name)
        if functions.model_warmup_fn:
            warm_up, model = functions.model_warmup_fn, loaded.model
            self._run(f"{name}: model_warmup_fn failed", warm_up, context, directory, model)
        return loaded

    def _load_with_algorithm(self, name: str) -> Loaded:
        try:
            algorithm = registry.for_artifact(self.directory, self.manifest)
        except ModelLoadError as error:
            reason = f"{name} defines no model_fn(model_dir), and {error.message}"
            raise ModelLoadError(reason) from error
        if algorithm.records == "table":
            raise ModelLoadError(
                f"{name} defines no model_fn(model_dir), which a model of algorithm "
                f"{algorithm.name!r} needs: its records are a table"
            )
        algorithm.verify(self.directory, self.manifest)
        model = algorithm.load(self.directory, self.manifest, self.options)
        return Loaded(
            model,
            default_predict.with_algorithm,
            algorithm.request_types[0],
            feature_names(model),
        )

    def _run(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the user's code while the model is loaded; any exception is a `ModelLoadError`."""
        try:
            return function(*arguments)
        except BaseException as error:  # also SystemExit, which would end the worker
            reason = f"{what}: {type(error).__name__}: {error}"
            if isinstance(error, ModuleNotFoundError):
                reason += "; bring packages along in code/lib, or build them into the image"
            raise ModelLoadError(shorten(reason, self.directory)) from error
