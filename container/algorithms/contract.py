"""What an algorithm is: the extension point of this container, readable in one screen.

To add an algorithm, write a class with these members, and register it: a built-in in
`container/algorithms/registry.py`, one of your own as an entry point of the group
`byoa.algorithms` in an ordinary wheel. Nothing has to be inherited; `Capabilities` may be imported.

A training job calls `hyperparameters` to check what the job asks for, `fit` with the channels, and
`save` on what `fit` returned. A server calls `verify` in a process that may die, then `load` once
and `predict` for every invocation.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from container.codecs.records import Batch, Columns, Floats, SparseRows
from container.manifest import ModelFacts, ModelManifest

MetricReporter = Callable[[int, Mapping[str, float]], None]
"""Called with the number of a round and `{"train-rmse": 1.2, "validation-rmse": 1.3}`."""


class Channel(Protocol):
    """One channel of the job, whatever its input mode and content type."""

    @property
    def name(self) -> str:
        """The channel's name, e.g. `train`."""

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the feature columns, known once a record was read; None where the format has no
        names."""

    @property
    def border_query_ids(self) -> Collection[int]:
        """The query ids where a file of this host ends and the next one begins, once all records
        were read; none where every host has the same files."""

    def batches(self) -> Iterator[Batch]:
        """Read all records in chunks; the same records in the same order each time.

        Columns of sparse records count from 0, whatever they count from in libsvm. The first call
        may exchange values with the other hosts, so that every host must make it, for all channels
        in the same order.

        A batch's arrays may be views of one memory: to keep one of them, copy it."""


class TrainedModel(Protocol):
    """What `fit` returns."""

    def save(self, directory: Path) -> ModelFacts:
        """Write the model's files into an empty directory and say what they hold."""

    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """How much each feature counts, by each measure that the algorithm has; maybe none."""


class Interruption(Protocol):
    """Whether the platform has asked the job to stop."""

    @property
    def was_requested(self) -> bool:
        """True from then on."""

    def request(self) -> None:
        """Say that another host of the job was asked, so that this one stops, too."""

    def defer(self) -> None:
        """Say that from now on `fit` looks at `was_requested` by itself, and returns what it has
        soon after it turns true. Until then the process ends where it is."""

    def leave_no_model(self) -> None:
        """Say that the job wants no model of the finished rounds when it is stopped: what `keep`
        is given, and what `fit` returns then, is not saved."""

    def keep(self, model: TrainedModel) -> None:
        """Give the model of the rounds so far: it is saved, in another thread, where `fit` cannot
        return in time. Nothing may change it afterwards."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is needed to go on after `n_rounds` finished rounds."""

    n_rounds: int
    history: Sequence[Mapping[str, float]]  # what was reported, one entry a round
    parts: Mapping[str, bytes]  # whatever the algorithm saved, by its own names
    libsvm_base: Literal[0, 1] | None = 0  # of the records; nothing that an algorithm needs


class Checkpoints(Protocol):
    """The checkpoints of this job; without any in a job that did not ask for them."""

    @property
    def is_on(self) -> bool:
        """Whether the job asks for checkpoints."""

    def resume(
        self,
        facts: Mapping[str, object],
        max_rounds: int,
        shorten: Callable[[Mapping[str, bytes], int], Mapping[str, bytes]] | None = None,
    ) -> Checkpoint | None:
        """The newest one that can be read and was made by the same job.

        Args:
            facts: What besides the data must not have changed, e.g. the hyperparameters. Their
                names are logged where they differ, their values never.
            max_rounds: The most finished rounds that are of use. Later checkpoints are kept.
            shorten: Given the parts of a checkpoint and a number of rounds, returns the parts that
                an earlier one of so many rounds has, byte by byte; absent where that cannot be
                told. A later checkpoint is then of use as well.
        """

    def is_due(self) -> bool:
        """Whether to save one after the round that has just been reported."""

    def save(self, n_rounds: int, parts: Mapping[str, bytes]) -> None:
        """Save one; what was reported so far goes with it. A disk that is full is logged."""


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
    """What the job may use while it runs."""

    memory_bytes: int  # in all, what is in use already included

    @property
    def has_disk(self) -> bool:
        """Whether what is written to `directory` is outside memory."""

    def directory(self) -> Path:
        """A directory for temporary files, made at the first call and removed with the job."""


class Cluster(Protocol):
    """The hosts of the job. Each runs the same `fit` on the records that it was given.

    What goes wrong on one host ends the job on all, so `fit` raises as if it were alone, and has no
    time limit when it waits for the others.
    """

    hosts: tuple[str, ...]  # sorted; the model of the first one is the job's
    rank: int  # of this host among them, from 0
    address: str  # IP address of the first host, as all of them reach it

    def gather(self, value: Any) -> list[Any]:
        """Tell all hosts a value that JSON can hold, and return what each told, in their order.

        Every host must call it equally often."""


@dataclass(frozen=True, slots=True)
class TrainingInput:
    """What `fit` is given: checked hyperparameters, the channels that are there, and the hosts."""

    hyperparameters: Any  # an instance of what `hyperparameters()` declares
    channels: Mapping[str, Channel]
    report: MetricReporter  # after every round: prints its line, and remembers it for the end
    announce: MetricReporter  # only prints: for rounds that are a part of something else
    n_threads: int
    interruption: Interruption
    scratch: Scratch
    cluster: Cluster
    checkpoints: Checkpoints
    output_dir: Path  # /opt/ml/output/data, for further results; it may have to be made


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
    """A model that knows what its features are called: requests with names are matched by them."""

    feature_names: tuple[str, ...] | None  # `[n_features]`, without repetition


@runtime_checkable
class WithOutputs(Protocol):
    """A model that predicts more than one value for a record: answers are bounded by the number."""

    n_outputs: int


def n_outputs(model: object) -> int:
    """The number of values that a model computes for one record, as far as it tells."""
    return model.n_outputs if isinstance(model, WithOutputs) else 1


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How the operator wants models to be served."""

    ensemble: bool = True  # whether several models in one artifact predict together


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a server may use the models of an algorithm; the defaults are safe for every framework.

    Raises:
        ValueError: row blocks are predicted in several threads, and the models are not thread-safe.
    """

    is_fork_safe: bool = False  # a loaded model still works in processes that are forked afterwards
    is_thread_safe: bool = False  # `predict` of one model may run in several threads at once
    # One record takes well under a millisecond: it may be predicted on the event loop, while pings
    # and other requests wait. Only for models that are thread-safe.
    is_quick: bool = False
    # `predict` uses one thread and releases the interpreter lock: blocks of the rows of a large
    # request are predicted side by side. A framework with threads of its own needs no such blocks.
    predicts_row_blocks: bool = False

    def __post_init__(self) -> None:
        if self.predicts_row_blocks and not self.is_thread_safe:
            raise ValueError("predicts_row_blocks needs is_thread_safe")


class Algorithm(Protocol):
    """A pluggable algorithm. `Capable` says what a server may do with its models besides."""

    name: str
    required_channels: tuple[str, ...]
    optional_channels: tuple[str, ...]
    training_types: tuple[str, ...]  # content types that a channel may have
    request_types: tuple[str, ...]  # content types of invocations; the first when none is sent
    response_types: tuple[str, ...]  # media types of answers; the first when none is asked for
    is_distributed: bool  # whether `fit` makes one model of the records of several hosts
    output_keys: tuple[str, ...]  # what SAGEMAKER_INFERENCE_OUTPUT may select; often nothing

    def hyperparameters(self) -> type[BaseModel]:
        """The declaration: types, ranges, aliases and defaults of every hyperparameter.

        A class attribute `FOREIGN_NAMES` may map what other libraries call a hyperparameter to its
        name here, for the error message.
        """

    def columns(self, hyperparameters: Any) -> Columns:
        """Which leading columns of a training record are label and weight."""

    def fit(self, job: TrainingInput) -> TrainedModel:
        """Train. Raises `UserError` for data or values that the owner of the job can mend."""

    def recognises(self, directory: Path) -> bool:
        """Whether a model directory without a manifest holds a model of this algorithm."""

    def verify(self, directory: Path, manifest: ModelManifest | None) -> Floats | None:
        """Check a model before it is loaded. Called once, in a process of its own that may die.

        Returns:
            Records that reach as much of the model as possible, float32 `[n, n_features]`. They
            are predicted there before any client's, dense and sparse, with missing and extreme
            values beside them. None where a record of zeros is all that should be tried.
        Raises:
            ModelLoadError: the model would be misread, or loading or predicting would crash.
        """

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> Model:
        """Load a model. Raises `ModelLoadError`. The directory is only read."""

    def select(self, model: Model, values: Floats, keys: Sequence[str]) -> dict[str, Any]:
        """The columns that `keys`, some of `output_keys`, name: arrays of `n_rows` or
        `[n_rows, k]`, NaN where a key does not apply to the model."""


@runtime_checkable
class Capable(Protocol):
    """An algorithm that declares capabilities; one that declares none has the safe defaults."""

    capabilities: Capabilities


def capabilities_of(algorithm: object) -> Capabilities:
    """The capabilities that an algorithm declares, or the safe defaults."""
    return algorithm.capabilities if isinstance(algorithm, Capable) else Capabilities()


class UserModel(Protocol):
    """A framework's model object that a user's code made, as an algorithm predicts with it."""

    feature_names: tuple[str, ...] | None  # as in `NamedModel`

    @property
    def n_features(self) -> int:
        """The number of features of a record."""

    @property
    def n_outputs(self) -> int:
        """The number of values that are predicted for a record."""

    def n_rows(self, data: Any) -> int | None:
        """The number of records of `data` in the framework's own form; None for all other data."""

    def predict(self, data: Any) -> Any:
        """Predict for data in the framework's own form, or for an array, a data frame or a SciPy
        matrix `[n_rows, n_features]` with the features in the order of the model.

        Raises:
            ValueError, TypeError: the framework refused the records.
        """


@runtime_checkable
class Adopting(Protocol):
    """An algorithm that predicts with its framework's model objects, too."""

    def adopt(self, model: object) -> UserModel | None:
        """The model as one to predict with; None unless it is an object of the framework.

        Called for every model that a user's code made: import nothing, look into `sys.modules`.
        """


@runtime_checkable
class Preloadable(Protocol):
    """An algorithm whose libraries may be loaded before a process is forked, but for its models.

    A server of many models then loads them once instead of once a trial.
    """

    def preload(self) -> None:
        """Load all that `verify`, `load` and `predict` need, and start no thread."""
