"""From the bytes of a payload to cells and tables, by content type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from container import content_types
from container.codecs.table import cells, csv_table, json_table
from container.codecs.table.cells import Cells
from container.codecs.table.table import Table
from container.errors import MalformedPayloadError
from container.schema import Schema

_HEADER = {"present": True, "absent": False}  # RFC 4180, section 3
_READERS: dict[str, Callable[[bytes], Cells]] = {
    content_types.JSON: json_table.read,
    content_types.JSON_LINES: json_table.read_lines,
}
REQUEST_TYPES = (content_types.CSV, *_READERS)
TRAINING_TYPES = (content_types.CSV, content_types.JSON_LINES)


@dataclass(frozen=True, slots=True)
class TableBatch:
    """Decoded records of a request; labels `[n_rows]`, numbers or text, where they pass."""

    features: Table
    labels: NDArray[Any] | None = None

    @property
    def n_rows(self) -> int:
        """Number of records."""
        return self.features.shape[0]


def read(body: bytes, content_type: str, parameters: Mapping[str, str]) -> Cells:
    """Read the cells of all records.

    Args:
        body: The payload.
        content_type: One of `REQUEST_TYPES`.
        parameters: Of the content type: `header` of CSV is `present` or `absent` (the default).
    Raises:
        MalformedPayloadError: the payload is not of its content type.
    """
    if content_type == content_types.CSV:
        header = parameters.get("header", "absent").lower()
        if header not in _HEADER:
            raise MalformedPayloadError("the content type's header must be present or absent")
        return csv_table.read(body, has_header=_HEADER[header])
    return _READERS[content_type](body)


def decode(
    body: bytes,
    content_type: str,
    parameters: Mapping[str, str],
    schema: Schema,
    n_leading: int,
    *,
    passes_label: bool = False,
) -> TableBatch:
    """Read the records of a request as a table of the model's schema.

    Args:
        body, content_type, parameters: As in `read`.
        schema: The columns that the model takes.
        n_leading: Number of columns before them: a label, or none.
        passes_label: True to keep the label, also that of records without names that have one
            column more than the schema.
    Raises:
        MalformedPayloadError: as in `read`, or the records do not have the columns of the schema.
    """
    _check_size(body)
    found = read(body, content_type, parameters)
    if passes_label and found.names is None and len(found.columns) == len(schema.columns) + 1:
        n_leading = 1
    labels = cells.first_column(found) if passes_label and n_leading else None
    return TableBatch(cells.table(found.without(n_leading), schema), labels)


def _check_size(body: bytes) -> None:
    """Refuse a request of more cells than its memory holds, before any is read.

    Training reads as many as there are: the memory of a job is its own.
    """
    separators = (b",", b"\n", b"\t", b";", b"|")
    most = max(body.count(each) for each in separators)
    if most > cells.MAX_CELLS:
        raise MalformedPayloadError(
            f"the records have more than {cells.MAX_CELLS} cells; send fewer records at once"
        )
