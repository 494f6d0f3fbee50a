"""Schema of a table: its columns, each of numbers or of text."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["number", "text"]
Records = Literal["numbers", "table"]
Labels = Literal["numbers", "classes"]


class Column(BaseModel):
    """One column; without a name it is known by its position."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    name: str | None = None


class Schema(BaseModel):
    """The columns of a record in order. Either all have names, no two alike, or none has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[Column, ...] = Field(min_length=1)

    @classmethod
    def of(cls, kinds: Sequence[Kind], names: Sequence[str] | None) -> Self:
        """Make a schema of kinds and, where the columns have them, names."""
        each = names if names is not None else [None] * len(kinds)
        pairs = zip(kinds, each, strict=True)
        return cls(columns=tuple(Column(kind=kind, name=name) for kind, name in pairs))

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = {column.name for column in self.columns}
        if names != {None} and (None in names or len(names) < len(self.columns)):
            raise ValueError("give every column a name of its own, or none of them a name")
        return self

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names in order, or None."""
        names = tuple(column.name for column in self.columns if column.name is not None)
        return names or None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each column in order."""
        return tuple(column.kind for column in self.columns)
