"""A preprocessor of tables: fills gaps, scales numbers, and makes columns of categories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.algorithms.sklearn.estimator_hyperparameters import Preprocessing
from container.codecs.records import Floats
from container.codecs.table.table import Table, described
from container.errors import ModelLoadError, TrainingError

FILE = "preprocessor.json"


class NumberColumn:
    """Fills gaps with the median, and scales."""

    def __init__(self, median: float, mean: float, deviation: float) -> None:
        self._facts = (float(median), float(mean), float(deviation))

    @classmethod
    def fit(cls, column: NDArray[Any], *, scale: bool) -> "NumberColumn":
        """Learn from float64 `[n_rows]` with NaN for gaps."""
        given = column[~np.isnan(column)]
        median = float(np.median(given)) if len(given) else 0.0
        filled = np.where(np.isnan(column), median, column)
        deviation = float(filled.std()) or 1.0
        return cls(median, float(filled.mean()), deviation) if scale else cls(median, 0.0, 1.0)

    def transform(self, column: NDArray[Any]) -> NDArray[np.float64]:
        """Return float64 `[n_rows, 1]`."""
        median, mean, deviation = self._facts
        filled = np.where(np.isnan(column), median, column)
        return ((filled - mean) / deviation)[:, None]

    def names(self, name: str) -> list[str]:
        """Return the names of the features that come out."""
        return [name]

    def content(self) -> dict[str, Any]:
        """Return what is stored."""
        median, mean, deviation = self._facts
        return {"kind": "number", "median": median, "mean": mean, "deviation": deviation}


class CategoryColumn:
    """One feature for each category: 1 for its own, 0 for others; all 0 for an unknown one."""

    def __init__(self, categories: list[str] | list[float]) -> None:
        self._categories = categories
        self._places = {category: index for index, category in enumerate(categories)}

    @classmethod
    def fit(cls, column: NDArray[Any], what: str, max_categories: int) -> "CategoryColumn":
        """Learn from text or numbers; raises `TrainingError` for too many categories."""
        found = sorted({cell for cell in column.tolist() if cell is not None and cell == cell})
        if len(found) > max_categories:
            raise TrainingError(
                f"{what} has {len(found)} categories; max_categories is {max_categories}: leave "
                "the column out, or raise max_categories"
            )
        return cls(found)

    def transform(self, column: NDArray[Any]) -> NDArray[np.float64]:
        """Return float64 `[n_rows, n_categories]`."""
        encoded = np.zeros((len(column), len(self._categories)))
        for row, cell in enumerate(column.tolist()):
            place = self._places.get(cell)
            if place is not None:
                encoded[row, place] = 1.0
        return encoded

    def names(self, name: str) -> list[str]:
        """Return the names of the features that come out."""
        return [f"{name}={category}" for category in self._categories]

    def content(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"kind": "category", "categories": self._categories}


Column = NumberColumn | CategoryColumn


class Preprocessor:
    """Answers with the transformed row of every record."""

    def __init__(self, columns: list[Column], names: list[str] | None) -> None:
        self._columns = columns
        self._names = names
        self.n_outputs = len(self.feature_names())

    @classmethod
    def fit(cls, table: Table, options: Preprocessing) -> "Preprocessor":
        """Learn medians, scales and categories.

        Raises:
            TrainingError: `categorical` names no column, or a column has too many categories.
        """
        names = list(table.names) if table.names else None
        categorical = {_index(each, names, table.shape[1]) for each in options.categorical}
        columns: list[Column] = []
        for index, kind in enumerate(table.kinds):
            column = table.columns[index]
            if kind == "text" or index in categorical:
                what = described(names, index)
                columns.append(CategoryColumn.fit(column, what, options.max_categories))
            else:
                columns.append(NumberColumn.fit(column, scale=options.scale))
        return cls(columns, names)

    def feature_names(self) -> list[str]:
        """Return the names of the features that come out, e.g. `city=Berlin`."""
        names = self._names or [f"column{index + 1}" for index in range(len(self._columns))]
        pairs = zip(self._columns, names, strict=True)
        return [each for column, name in pairs for each in column.names(name)]

    def predict(self, records: Table) -> Floats:
        """See `container.algorithms.serving_contract.TableModel.predict`."""
        pairs = zip(self._columns, records.columns, strict=True)
        parts = [column.transform(cells) for column, cells in pairs]
        return np.ascontiguousarray(np.hstack(parts), dtype=np.float32)

    def save(self, directory: Path) -> None:
        """See `container.algorithms.training_contract.TrainedModel.save`."""
        content = {
            "columns": [column.content() for column in self._columns],
            "names": self._names,
            "features": self.feature_names(),
        }
        (directory / FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Preprocessor":
        """Load the file of `save`; raises `ModelLoadError` for another content."""
        try:
            content = json.loads((directory / FILE).read_bytes())
            columns = [_column(each) for each in content["columns"]]
            loaded = cls(columns, content["names"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(f"{FILE}: {type(error).__name__}: {error}") from error
        return loaded


def _column(content: dict[str, Any]) -> Column:
    if content["kind"] == "number":
        return NumberColumn(content["median"], content["mean"], content["deviation"])
    return CategoryColumn(list(content["categories"]))


def _index(name: str, names: list[str] | None, n_columns: int) -> int:
    if names is not None and name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < n_columns:
        return int(name)
    raise TrainingError(
        f"categorical names {name!r}; accepted are names of columns, if they have some, and "
        f"indices from 0 to {n_columns - 1} among the features"
    )
