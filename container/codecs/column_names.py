"""Columns matched by name, wherever both sides have names (C-103).

A model, or the first table of a training job, says which columns there are and in which order. A
table with the same names in another order is put in that order; any difference is an error.
"""

from collections.abc import Sequence

from container.codecs.records import Columns
from container.errors import MalformedPayloadError

_MAX_LISTED = 10  # names in a message
_MAX_CHARACTERS = 60  # of one name in a message


def for_model(names: Sequence[str], columns: Columns) -> list[int] | None:
    """Where in a table each column is that a model takes, the label first if there is one.

    Names that only count, as pandas writes them for a table without names, and that are not the
    model's, are no names.

    Args:
        names: Those of the table's columns, in its order.
        columns: Which of them the model takes.
    Returns:
        The places of `n_leading` columns and then of each feature, counted from 0; None where the
        columns are to be taken by position, because the model or the table has no names.
    Raises:
        MalformedPayloadError: the names are not those of the features, listing the difference; or
            a name occurs twice.
    """
    wanted = columns.feature_names
    if wanted is None or (_is_counting(names) and not set(wanted) <= set(names)):
        return None
    places = _places(names)
    missing, others = _difference(names, wanted)
    if missing or len(others) != columns.n_leading:
        problem = f"the columns are not the model's features: {_said(missing, others)}"
        if not missing and not others:
            problem = "label_size=1 announces a label column, and all columns are features"
        elif columns.n_leading:
            problem += "; only the label column may have another name"
        elif len(others) == 1 and not missing:
            problem += (
                "; leave it out, or, if it is the label, add label_size=1 to the content type"
            )
        else:
            problem += "; send the columns that the model was trained on"
        raise MalformedPayloadError(problem)
    return [places[name] for name in (*others, *wanted)]


def for_job(names: Sequence[str], wanted: Sequence[str], whose: str) -> list[int]:
    """Where in a table of training data each column is that the job's first table has.

    Args:
        names: Those of the table's columns, in its order.
        wanted: Those of the first table, label included.
        whose: What a message calls the first table.
    Returns:
        The places of the columns, counted from 0.
    Raises:
        MalformedPayloadError: as `for_model`.
    """
    places = _places(names)
    missing, others = _difference(names, wanted)
    if missing or others:
        raise MalformedPayloadError(
            f"the columns are not those of {whose}: {_said(missing, others)}; give all files "
            "columns of the same names"
        )
    return [places[name] for name in wanted]


def shown(name: str) -> str:
    """A name in a message, quoted and cut to a bounded length."""
    return repr(name if len(name) <= _MAX_CHARACTERS else f"{name[:_MAX_CHARACTERS]}…")


def listed(names: Sequence[str]) -> str:
    """Names in a message, in bounded length."""
    text = ", ".join(map(shown, names[:_MAX_LISTED]))
    more = len(names) - _MAX_LISTED
    return f"{text} and {more} more" if more > 0 else text


def _is_counting(names: Sequence[str]) -> bool:
    """Whether names are the positions of their columns, counted from 0."""
    return list(names) == [str(place) for place in range(len(names))]


def _places(names: Sequence[str]) -> dict[str, int]:
    """The place of each name, which must be the only one of its kind."""
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        repeated = next(name for place, name in enumerate(names) if places[name] != place)
        raise MalformedPayloadError(
            f"two columns are called {shown(repeated)}; give each column a name of its own"
        )
    return places


def _difference(names: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names that are missing, and those that are there besides."""
    found, known = set(names), set(wanted)
    return (
        [name for name in wanted if name not in found],
        [name for name in names if name not in known],
    )


def _said(missing: Sequence[str], others: Sequence[str]) -> str:
    parts = [("missing", missing), ("unknown", others)]
    return "; ".join(f"{what}: {listed(names)}" for what, names in parts if names)
