"""Interface of an algorithm: the extension point of this container.

To add an algorithm, write a class with these members, and register it: a built-in in
`container/algorithms/registry.py`, one of your own as an entry point of the group
`byoa.algorithms` in an ordinary wheel. Nothing has to be inherited; `Capabilities` may be imported.

A training job calls `hyperparameters` to validate the job's values, `fit` with the channels, and
`save` on the result of `fit`. A server calls `verify` in a child process, which may crash, then
`load` once and `predict` for every invocation.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from container.codecs.records import Batch, Columns, Floats, SparseRows
from container.manifest import ModelFacts, ModelManifest

MetricReporter = Callable[[int, Mapping[str, float]], None]
"""Receiver of the number of a round and `{"train-rmse": 1.2, "validation-rmse": 1.3}`."""


class Channel(Protocol):
    """One channel of the job, whatever its input mode and content type."""

    @property
    def name(self) -> str:
        """The channel's name, e.g. `train`."""

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the feature columns, known after the first record; None if there are none."""

    @property
    def border_query_ids(self) -> Collection[int]:
        """Query ids at the boundary between two files of this host, known once all records were
        read; none if every host has the same files."""

    def batches(self) -> Iterator[Batch]:
        """Read all records in chunks; the same records in the same order each time.

        Columns of sparse records count from 0, also if they count from 1 in libsvm. The first call
        may be an all-gather with the other hosts: every host must make it, for all channels in the
        same order.

        A batch's arrays may be views of one buffer: copy one to keep it.
        """


class TrainedModel(Protocol):
    """The result of `fit`."""

    def save(self, directory: Path) -> ModelFacts:
        """Write the model's files into an empty directory, and return facts about the model."""

    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """Importance of each feature, by each measure of the algorithm; often empty."""


class Interruption(Protocol):
    """The platform's request to stop the job."""

    @property
    def was_requested(self) -> bool:
        """True once the platform asked the job to stop."""

    def request(self) -> None:
        """Stop this host, too, because another host of the job was asked to."""

    def defer(self) -> None:
        """Take over: from now on `fit` polls `was_requested`, and returns the model so far soon
        after it turns true. Before this call a request ends the process at once."""

    def leave_no_model(self) -> None:
        """Discard the model of a stopped job: neither the argument of `keep` nor the result of
        `fit` is saved."""

    def keep(self, model: TrainedModel) -> None:
        """Pass on the model of the rounds so far: another thread saves it if `fit` does not return
        in time. Nothing may change it afterwards."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State from which training resumes after `n_rounds` finished rounds."""

    n_rounds: int
    history: Sequence[Mapping[str, float]]  # the reported metrics, one entry a round
    parts: Mapping[str, bytes]  # the algorithm's own data, by its own names
    libsvm_base: Literal[0, 1] | None = 0  # of the records; not for algorithms


class Checkpoints(Protocol):
    """Checkpoints of this job; off in a job that does not ask for them."""

    @property
    def is_on(self) -> bool:
        """True if the job asks for checkpoints."""

    def resume(
        self,
        facts: Mapping[str, object],
        max_rounds: int,
        shorten: Callable[[Mapping[str, bytes], int], Mapping[str, bytes]] | None = None,
    ) -> Checkpoint | None:
        """Return the newest readable checkpoint of the same job.

        Args:
            facts: Facts that must be unchanged besides the data, e.g. the hyperparameters. The
                names of those that differ are logged, their values never.
            max_rounds: Largest usable number of finished rounds. Later checkpoints are kept.
            shorten: Given the parts of a checkpoint and a smaller number of rounds, returns the
                parts of a checkpoint of so many rounds, byte by byte. With it, later checkpoints
                are usable, too.
        """

    def is_due(self) -> bool:
        """Return True if a checkpoint should be saved after the round just reported."""

    def save(self, n_rounds: int, parts: Mapping[str, bytes]) -> None:
        """Save a checkpoint with the metrics reported so far; a full disk is only logged."""


@dataclass(frozen=True, slots=True)
class NoCheckpoints:
    """Null object for `Checkpoints`: nothing is found and nothing is saved.

    For a job that asks for no checkpoints, for all hosts of a job but the first, and for a training
    that cannot be resumed on its own.
    """

    is_on: bool = False

    def resume(
        self,
        facts: Mapping[str, object],
        max_rounds: int,
        shorten: Callable[[Mapping[str, bytes], int], Mapping[str, bytes]] | None = None,
    ) -> None:
        """Return None."""

    def is_due(self) -> bool:
        """Return False."""
        return False

    def save(self, n_rounds: int, parts: Mapping[str, bytes]) -> None:
        """Do nothing."""


class Scratch(Protocol):
    """Temporary resources of the job."""

    memory_bytes: int  # in total, memory in use included

    @property
    def has_disk(self) -> bool:
        """True if `directory` is on a disk, not in memory (tmpfs)."""

    def directory(self) -> Path:
        """Directory for temporary files, created at the first call and removed with the job."""


class Cluster(Protocol):
    """Hosts of the job. Each runs the same `fit` on its own records.

    A failure of one host ends the job on all hosts. So `fit` raises as on a single host, and waits
    for the others without a time limit.
    """

    hosts: tuple[str, ...]  # sorted; the model of the first one is the job's
    rank: int  # of this host among them, from 0
    address: str  # IP address of the first host, as all of them reach it

    def gather(self, value: Any) -> list[Any]:
        """All-gather: send a JSON value to all hosts, and return the values of all, by rank.

        Also a barrier: every host must call it equally often.
        """


@dataclass(frozen=True, slots=True)
class TrainingInput:
    """Arguments of `fit`: validated hyperparameters, the channels, and the hosts."""

    hyperparameters: Any  # an instance of the class that `hyperparameters()` returns
    channels: Mapping[str, Channel]
    report: MetricReporter  # after every round: logs the metrics, and keeps them for the results
    announce: MetricReporter  # only logs: for the rounds of a fold, for example
    n_threads: int
    interruption: Interruption
    scratch: Scratch
    cluster: Cluster
    checkpoints: Checkpoints
    output_dir: Path  # /opt/ml/output/data, for further results; may be missing


class Model(Protocol):
    """A loaded model."""

    n_features: int

    def predict(self, features: Floats | SparseRows) -> Floats:
        """Predict for float32 `[n_rows, n_features]`; NaN or an absent cell is missing.

        Returns:
            Float32 `[n_rows]`, or `[n_rows, n_outputs]` for several outputs, owned by the caller.
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

    def __post_init__(self) -> None:
        if self.predicts_row_blocks and not self.is_thread_safe:
            raise ValueError("predicts_row_blocks needs is_thread_safe")


class Algorithm(Protocol):
    """A pluggable algorithm; `Capable`, `Adopting` and `Preloadable` are optional additions."""

    name: str
    required_channels: tuple[str, ...]
    optional_channels: tuple[str, ...]
    training_types: tuple[str, ...]  # content types that a channel may have
    request_types: tuple[str, ...]  # content types of invocations; the first when none is sent
    response_types: tuple[str, ...]  # media types of answers; the first when none is asked for
    is_distributed: bool  # `fit` makes one model of the records of several hosts
    output_keys: tuple[str, ...]  # what SAGEMAKER_INFERENCE_OUTPUT may select; often nothing

    def hyperparameters(self) -> type[BaseModel]:
        """Return the declaration: types, ranges, aliases and defaults of every hyperparameter.

        A class attribute `FOREIGN_NAMES` may map names in other libraries to the names here, for
        error messages.
        """

    def columns(self, hyperparameters: Any) -> Columns:
        """Return the layout of a training record: label, weight, query id."""

    def fit(self, job: TrainingInput) -> TrainedModel:
        """Train; raises `UserError` for data or values that the owner of the job can correct."""

    def recognises(self, directory: Path) -> bool:
        """Return True if a directory without a manifest holds a model of this algorithm.

        Called for models of any algorithm: look at names and first bytes, import no framework.
        """

    def verify(self, directory: Path, manifest: ModelManifest | None) -> Floats | None:
        """Validate a model before it is loaded. Called once, in a child process, which may crash.

        Returns:
            Records that reach as much of the model as possible, float32 `[n, n_features]`. The
            validation run predicts them before any client's, dense and sparse, with missing and
            extreme values beside them. None for a validation run with a record of zeros only.
        Raises:
            ModelLoadError: the model would be misread, or loading or predicting would crash.
        """

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> Model:
        """Load a model; raises `ModelLoadError`. The directory is read-only."""

    def select(self, model: Model, values: Floats, keys: Sequence[str]) -> dict[str, Any]:
        """Return the outputs that `keys`, some of `output_keys`, name.

        Arrays `[n_rows]` or `[n_rows, k]`, of integers for classes; NaN where a key does not apply
        to the model.
        """


@runtime_checkable
class Capable(Protocol):
    """An algorithm that declares capabilities; others have the safe defaults."""

    capabilities: Capabilities


def capabilities_of(algorithm: object) -> Capabilities:
    """Return the capabilities of an algorithm, or the safe defaults."""
    return algorithm.capabilities if isinstance(algorithm, Capable) else Capabilities()


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
