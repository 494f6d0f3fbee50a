"""Interface of an algorithm: the extension point of this container.

To add an algorithm, write a subclass of `Algorithm` and register an instance: a built-in in
`container/algorithms/registry.py`, one of your own as an entry point of the group
`byoa.algorithms` in an ordinary wheel. `fit` and `load` have no default, everything else has;
`training_contract` and `serving_contract` say what each member is for.

A training job calls `hyperparameters` to validate the job's values, `fit` with the channels, and
`save` on the result of `fit`. A server calls `verify` in a child process, which may crash, then
`load` once and `predict` for every invocation.
"""

from container import codecs
from container.algorithms.serving_contract import ServingAlgorithm
from container.algorithms.training_contract import TrainingAlgorithm
from container.codecs.table import decoders
from container.errors import AlgorithmError

TRAINING_TYPES = TrainingAlgorithm.training_types


class Algorithm(TrainingAlgorithm, ServingAlgorithm):
    """A pluggable algorithm: its name and both halves of the contract."""

    name: str  # as in the hyperparameter `algorithm`, the manifest, and the entry point

    def __init_subclass__(cls) -> None:
        """Narrow the content types to those that have room for text, unless they are declared."""
        if cls.records == "table" and cls.request_types is ServingAlgorithm.request_types:
            cls.request_types = decoders.REQUEST_TYPES
        if cls.trains_on_tables() and cls.training_types is TrainingAlgorithm.training_types:
            cls.training_types = decoders.TRAINING_TYPES

    @classmethod
    def trains_on_tables(cls) -> bool:
        """Return True if `fit` gets `tables`, False if it gets `channels`."""
        return cls.records == "table" or cls.labels == "classes"


def check(found: object, name: str) -> Algorithm:
    """Return what was registered under `name`, if it keeps the contract as far as can be seen.

    Raises:
        AlgorithmError: it is no instance of a subclass of `Algorithm`, has another name, or
            declares a content type that nothing here reads or writes; every fault is named.
    """
    if not isinstance(found, Algorithm):
        raise AlgorithmError(
            f"algorithm {name!r} is {_described(found)}; register an instance of a subclass of "
            "container.algorithms.contract.Algorithm"
        )
    faults = []
    if getattr(found, "name", None) != name:
        faults.append(f"its name is {getattr(found, 'name', None)!r}: set name = {name!r}")
    tables = found.trains_on_tables()
    for member, known in (
        ("training_types", decoders.TRAINING_TYPES if tables else TRAINING_TYPES),
        (
            "request_types",
            decoders.REQUEST_TYPES if found.records == "table" else codecs.REQUEST_TYPES,
        ),
        ("response_types", codecs.RESPONSE_TYPES),
    ):
        unknown = [each for each in getattr(found, member) if each not in known]
        if unknown or not getattr(found, member):
            given = ", ".join(unknown) or "nothing"
            faults.append(f"{member} has {given}; accepted: {', '.join(known)}")
    if tables and found.is_distributed:
        faults.append("is_distributed: tables and classes are read by one host only; leave it off")
    if faults:
        raise AlgorithmError(f"algorithm {name!r}: {'; '.join(faults)}")
    return found


def _described(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}, not an instance of it"
    return f"an instance of {type(found).__name__}"
