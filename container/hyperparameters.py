"""Parse the strings of `hyperparameters.json` into an algorithm's typed declaration.

The platform sends every value as a string; the SDK's script mode also JSON-encodes it, some callers
twice (`"\\"reg:squarederror\\""`). What a person wrote by hand as a JSON number or list is read as
the text that the platform would have sent.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ValidationError

from container.errors import HyperparameterError

ModelT = TypeVar("ModelT", bound=BaseModel)

# Keys that belong to the platform and its SDK, whatever the algorithm (C-013);
# `train.control_keys` handles each.
_CONTROL_PREFIX = "sagemaker_"
_CONTROL_KEYS = frozenset({"default_user_module_name"})
_MAX_ENCODINGS = 3
# Of difflib: below it `n_estimators` is near to `min_split_loss`.
_SIMILARITY = 0.7
_UNKNOWN = "extra_forbidden"
_MAX_SHOWN = 60


def plain(raw: Mapping[str, object]) -> dict[str, str]:
    """Return the hyperparameters of the algorithm as text, JSON encoding undone."""
    return {name: _text(value) for name, value in raw.items() if not _is_control(name)}


def control(raw: Mapping[str, object]) -> dict[str, str]:
    """Return the control keys of the platform and its SDK as text, JSON encoding undone."""
    return {name: _text(value) for name, value in raw.items() if _is_control(name)}


def validate(declaration: type[ModelT], values: Mapping[str, str]) -> ModelT:
    """Check `values` against an algorithm's hyperparameters.

    Raises:
        HyperparameterError: naming every key that is unknown, missing or out of range.
    """
    _refuse_two_names_for_one(declaration, values)
    try:
        return declaration.model_validate(values)
    except ValidationError as error:
        problems: dict[str, str] = {}
        # Unknown names last: their hint may list every known one.
        for details in sorted(
            error.errors(include_url=False), key=lambda entry: entry["type"] == _UNKNOWN
        ):
            # A key that cannot be written down in Unicode has no place in the message either.
            name = str(details["loc"][0]) if details["loc"] else "hyperparameters.json"
            problems.setdefault(name, _problem(declaration, name, dict(details)))
        (first, problem), *others = problems.items()
        raise HyperparameterError(
            first, "; ".join([problem, *(f"{name!r}: {text}" for name, text in others)])
        ) from error


def names(declaration: type[BaseModel]) -> list[str]:
    """Return every name that a job may use, aliases included."""
    return sorted(name for group in _groups(declaration) for name in group)


def _is_control(name: str) -> bool:
    return name.startswith(_CONTROL_PREFIX) or name in _CONTROL_KEYS


def _text(value: object) -> str:
    for _ in range(_MAX_ENCODINGS):
        if not (isinstance(value, str) and value[:1] == value[-1:] == '"' and len(value) > 1):
            break
        try:
            value = json.loads(value)
        except ValueError:
            break
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _groups(declaration: type[BaseModel]) -> Iterable[list[str]]:
    """Yield the names of each field: its aliases, or else its own name."""
    for name, field in declaration.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            yield [str(choice) for choice in alias.choices]
        else:
            yield [str(alias or name)]


def _refuse_two_names_for_one(declaration: type[BaseModel], values: Mapping[str, object]) -> None:
    for group in _groups(declaration):
        given = [name for name in group if name in values]
        if len(given) > 1:
            raise HyperparameterError(
                given[0], f"given twice, as {' and '.join(map(repr, given))}; keep one of them"
            )


def _hint(declaration: type[BaseModel], name: str) -> str:
    """Return a hint: the name of another library's hyperparameter here, or a similar spelling."""
    foreign: Mapping[str, str] = getattr(declaration, "FOREIGN_NAMES", {})
    known = names(declaration)
    spelled = name.lower().replace("-", "_")
    if spelled in foreign:
        return f"use {foreign[spelled]!r}"
    nearest = difflib.get_close_matches(spelled, known, n=1, cutoff=_SIMILARITY)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known)}"


def _problem(declaration: type[BaseModel], name: str, details: Mapping[str, Any]) -> str:
    if details["type"] == _UNKNOWN:
        return f"is not known; {_hint(declaration, name)}"
    if details["type"] == "missing":
        return "is required and was not given"
    expected = str(details["msg"]).removeprefix("Value error, ")
    given = repr(details["input"])
    if len(given) > _MAX_SHOWN:
        given = f"{given[:_MAX_SHOWN]}…"
    return f"{given} is not accepted; {expected[:1].lower()}{expected[1:]}"
