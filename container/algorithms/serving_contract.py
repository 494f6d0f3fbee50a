"""The serving half of an algorithm's contract: models, and how a server may use them."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from container import codecs
from container.codecs.answers import Answers
from container.codecs.records import Floats, SparseRows
from container.codecs.table.table import Table
from container.manifest import ModelManifest
from container.schema import Records


class Model(Protocol):
    """A loaded model."""

    n_features: int

    def predict(self, features: Floats | SparseRows) -> Answers:
        """Predict for float32 `[n_rows, n_features]`; NaN or an absent cell is missing.

        Returns:
            Float32 `[n_rows]`, or `[n_rows, n_outputs]` for several values a record, owned by the
            caller; or text, or several outputs by name, the primary one first.
        Raises:
            PredictionError: the framework refused the records.
        """


class TableModel(Protocol):
    """A loaded model of an algorithm whose records are a table."""

    def predict(self, records: Table) -> Answers:
        """Predict for a table of the schema in the manifest.

        A text may be one that training never saw, and any cell may be missing.

        Returns:
            One output, `[n_rows]` or `[n_rows, k]`, or several by name, the primary one first.
        Raises:
            PredictionError: the framework refused the records.
        """


class NamedModel(Model, Protocol):
    """A model with feature names: columns of requests with names are matched by name."""

    feature_names: tuple[str, ...] | None  # `[n_features]`, unique


@runtime_checkable
class WithOutputs(Protocol):
    """A model that declares its number of values a record, which bounds the size of answers."""

    n_outputs: int


def n_outputs(model: object) -> int:
    """Return the number of values that a model computes for a record; 1 if undeclared."""
    return model.n_outputs if isinstance(model, WithOutputs) else 1


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """The operator's options for serving a model."""

    ensemble: bool = True  # several models in one artifact predict together


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Permissions of a server for the models of an algorithm; the defaults are always safe.

    Raises:
        ValueError: row blocks are predicted in several threads, and the models are not thread-safe.
    """

    is_fork_safe: bool = False  # a loaded model still works in processes that are forked afterwards
    is_thread_safe: bool = False  # `predict` of one model may run in several threads at once
    # One record takes well under a millisecond: it may be predicted on the event loop, while pings
    # and other requests wait. Only for thread-safe models.
    is_quick: bool = False
    # `predict` uses one thread and releases the interpreter lock, so that blocks of rows of a large
    # request are predicted in parallel. Leave it off for a framework with threads of its own.
    predicts_row_blocks: bool = False
    takes_missing: bool = False  # records with a missing value; others get them refused
    # Of tables: a label before the columns of the schema comes first in the answer, as the
    # preprocessor of a training pipeline needs it. Others leave it out.
    passes_label: bool = False
    takes_sparse: bool = False  # `SparseRows`; others get them as a matrix, NaN where absent

    def __post_init__(self) -> None:
        if self.predicts_row_blocks and not self.is_thread_safe:
            raise ValueError("predicts_row_blocks needs is_thread_safe")


class ServingAlgorithm(abc.ABC):
    """An algorithm as a server uses it; only `load` has no default.

    `verify` is called in a child process, which may crash, then `load` once and `predict` of the
    model for every invocation. `Adopting` and `Preloadable` are optional additions.
    """

    records: Records = "numbers"  # a float32 matrix, or "table": columns of numbers and text
    request_types: tuple[str, ...] = codecs.REQUEST_TYPES  # of invocations; the first without one
    response_types: tuple[str, ...] = codecs.RESPONSE_TYPES  # the first when none is asked for
    capabilities: Capabilities = Capabilities()
    output_keys: tuple[str, ...] = ()  # what SAGEMAKER_INFERENCE_OUTPUT may select

    def recognises(self, directory: Path) -> bool:
        """Return True if a directory without a manifest holds a model of this algorithm.

        Called for models of any algorithm: look at names and first bytes, import no framework. By
        default a model needs the manifest that training writes.
        """
        return False

    def verify(self, directory: Path, manifest: ModelManifest | None) -> Floats | None:
        """Validate a model before it is loaded. Called once, in a child process, which may crash.

        Returns:
            Records that reach as much of the model as possible, float32 `[n, n_features]`. The
            validation run predicts them before any client's, dense and sparse, with missing and
            extreme values beside them. None for a validation run with a record of zeros only.
        Raises:
            ModelLoadError: the model would be misread, or loading or predicting would crash.
        """
        return None

    @abc.abstractmethod
    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> Model | TableModel:
        """Load a model; raises `ModelLoadError`. The directory is read-only."""

    def select(self, model: Any, values: Floats, keys: Sequence[str]) -> dict[str, Any]:
        """Return the outputs that `keys`, some of `output_keys`, name.

        Arrays `[n_rows]` or `[n_rows, k]`, of integers for classes; NaN where a key does not apply
        to the model.
        """
        raise NotImplementedError(f"{type(self).__name__} declares output_keys and no select()")


class UserModel(Protocol):
    """Adapter of a framework's model object that user code returned."""

    feature_names: tuple[str, ...] | None  # as in `NamedModel`

    @property
    def n_features(self) -> int:
        """Number of features of a record."""

    @property
    def n_outputs(self) -> int:
        """Number of values predicted for a record."""

    def n_rows(self, data: Any) -> int | None:
        """Return the number of records of data in the framework's own form; None for others."""

    def predict(self, data: Any) -> Any:
        """Predict for data in the framework's own form, or for an array, a data frame or a SciPy
        matrix `[n_rows, n_features]` with the features in the model's order.

        Raises:
            ValueError, TypeError: the framework refused the records.
        """


@runtime_checkable
class Adopting(Protocol):
    """An algorithm that also predicts with model objects of its framework."""

    def adopt(self, model: object) -> UserModel | None:
        """Wrap a model object of the framework; None for other objects.

        Called for objects whose class, or a class that it inherits from, is of a package that the
        algorithm declares; see `container.algorithms.registry`.
        """


@runtime_checkable
class Preloadable(Protocol):
    """An algorithm whose libraries, not its models, may be loaded before a process forks.

    A server of many models then loads them once instead of once a validation run.
    """

    def preload(self) -> None:
        """Load the libraries of `verify`, `load` and `predict`, without starting a thread."""
