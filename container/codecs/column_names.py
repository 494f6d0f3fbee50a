"""Matching of columns by name, where both sides have names (C-103).

A model, or the first table of a training job, defines the columns and their order. A table with the
same names in another order is reordered; a missing, unknown or repeated name is an error.
"""

from collections.abc import Sequence

from container.codecs.records import Columns
from container.errors import MalformedPayloadError

_MAX_LISTED = 10  # names in a message
_MAX_CHARACTERS = 60  # of one name in a message


def for_model(names: Sequence[str], columns: Columns) -> list[int] | None:
    """Return the index in a table of each column that a model takes, the label first.

    `0`, `1`, `2`, …, which pandas writes for a table without names, count as no names unless they
    are the model's own.

    Args:
        names: Names of the table's columns, in its order.
        columns: The columns that the model takes.
    Returns:
        Indices, from 0, of the `n_leading` columns and then of each feature; None if the model or
        the table has no names, so that columns are matched by position.
    Raises:
        MalformedPayloadError: the names differ from those of the features (the message lists the
            difference), or a name occurs twice.
    """
    wanted = columns.feature_names
    if wanted is None or (_is_counting(names) and not set(wanted) <= set(names)):
        return None
    indices = _indices(names)
    missing, others = _difference(names, wanted)
    if missing or len(others) != columns.n_leading:
        problem = f"the columns are not the model's features: {_described(missing, others)}"
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
    return [indices[name] for name in (*others, *wanted)]


def for_job(names: Sequence[str], wanted: Sequence[str], whose: str) -> list[int]:
    """Return the index in a table of training data of each column of the job's first table.

    Args:
        names: Names of the table's columns, in its order.
        wanted: Names of the first table's columns, label included.
        whose: Name of the first table in error messages.
    Returns:
        Indices of the columns, from 0.
    Raises:
        MalformedPayloadError: as `for_model`.
    """
    indices = _indices(names)
    missing, others = _difference(names, wanted)
    if missing or others:
        raise MalformedPayloadError(
            f"the columns are not those of {whose}: {_described(missing, others)}; give all files "
            "columns of the same names"
        )
    return [indices[name] for name in wanted]


def shown(name: str) -> str:
    """Quote a name for a message, cut to a bounded length."""
    return repr(name if len(name) <= _MAX_CHARACTERS else f"{name[:_MAX_CHARACTERS]}…")


def listed(names: Sequence[str]) -> str:
    """List names for a message, in bounded length."""
    text = ", ".join(map(shown, names[:_MAX_LISTED]))
    more = len(names) - _MAX_LISTED
    return f"{text} and {more} more" if more > 0 else text


def _is_counting(names: Sequence[str]) -> bool:
    """Return True if names are the positions of their columns, counted from 0."""
    return list(names) == [str(index) for index in range(len(names))]


def _indices(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each name; raise `MalformedPayloadError` for a repeated one."""
    indices = {name: index for index, name in enumerate(names)}
    if len(indices) < len(names):
        repeated = next(name for index, name in enumerate(names) if indices[name] != index)
        raise MalformedPayloadError(
            f"two columns are called {shown(repeated)}; give each column a name of its own"
        )
    return indices


def _difference(names: Sequence[str], wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the wanted names that are missing, and the names that are not wanted."""
    found, known = set(names), set(wanted)
    return (
        [name for name in wanted if name not in found],
        [name for name in names if name not in known],
    )


def _described(missing: Sequence[str], others: Sequence[str]) -> str:
    parts = [("missing", missing), ("unknown", others)]
    return "; ".join(f"{what}: {listed(names)}" for what, names in parts if names)
