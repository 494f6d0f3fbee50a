"""The training half of an algorithm's contract: the arguments of `fit`, and its result."""

import abc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from container import content_types
from container.codecs.records import Batch, Columns
from container.codecs.table.table import Examples
from container.manifest import ModelFacts
from container.schema import Labels

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


class TableChannel(Protocol):
    """One channel of a job whose records are a table, or whose labels are classes."""

    @property
    def name(self) -> str:
        """The channel's name, e.g. `train`."""

    def read(self) -> Examples:
        """Read all records, which stay in memory.

        A column is text in all channels of the job if a cell of it is not a number in any of them.
        """


class TrainedModel(Protocol):
    """The result of `fit`."""

    def save(self, directory: Path) -> ModelFacts | None:
        """Write the model's files into an empty directory, and return facts about the model.

        With None the job describes it by the records, and tries the saved model with one.
        """


@runtime_checkable
class WithImportances(Protocol):
    """A trained model that can tell the importance of its features."""

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
    channels: Mapping[str, Channel]  # of records that are numbers; otherwise `tables`
    tables: Mapping[str, TableChannel]
    report: MetricReporter  # after every round: logs the metrics, and keeps them for the results
    announce: MetricReporter  # only logs: for the rounds of a fold, for example
    n_threads: int
    interruption: Interruption
    scratch: Scratch
    cluster: Cluster
    checkpoints: Checkpoints
    output_dir: Path  # /opt/ml/output/data, for further results; may be missing


class NoHyperparameters(BaseModel):
    """Declaration of an algorithm that has none: any is refused."""

    model_config = ConfigDict(extra="forbid")


class TrainingAlgorithm(abc.ABC):
    """An algorithm as a training job uses it; only `fit` has no default."""

    required_channels: tuple[str, ...] = ("train",)
    optional_channels: tuple[str, ...] = ("validation",)
    training_types: tuple[str, ...] = (  # content types that a channel may have
        content_types.CSV,
        content_types.JSON_LINES,
        content_types.PARQUET,
        content_types.LIBSVM,
        content_types.RECORDIO,
    )
    labels: Labels = "numbers"  # or "classes": numbers or text
    is_distributed: bool = False  # `fit` makes one model of the records of several hosts

    def hyperparameters(self) -> type[BaseModel]:
        """Return the declaration: types, ranges, aliases and defaults of every hyperparameter.

        A class attribute `FOREIGN_NAMES` may map names in other libraries to the names here, for
        error messages.
        """
        return NoHyperparameters

    def columns(self, hyperparameters: Any) -> Columns:
        """Return the layout of a training record: label, weight, query id; by default a label."""
        return Columns(label_size=1)

    @abc.abstractmethod
    def fit(self, job: TrainingInput) -> TrainedModel:
        """Train; raises `UserError` for data or values that the owner of the job can correct."""
