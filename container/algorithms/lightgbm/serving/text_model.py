"""Loaded LightGBM models, from files in the text format.

A model that was stopped early holds its best rounds only: LightGBM writes no others, and nor does
a training job here.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from container.algorithms.lightgbm.formats import model_text, text_trees
from container.algorithms.lightgbm.serving.lightgbm_library import (
    LightGBMLibraryError,
    TextBooster,
)
from container.codecs.records import Floats, SparseRows, rows
from container.errors import ModelLoadError, PredictionError, counted

_PLACEHOLDER = re.compile(r"Column_\d+")  # for records without names
_BLOCK_VALUES = 2**15  # LightGBM's predictions take 8 bytes a value until they are float32


class LightGBMModel:
    """See `container.algorithms.serving_contract.NamedModel`. Thread-safe and fork-safe."""

    def __init__(self, file: Path, *, feature_names: Sequence[str] | None = None) -> None:
        """Load `file`.

        Args:
            file: The model in the text format.
            feature_names: Names of the features; by default the file's own.
        Raises:
            ModelLoadError: the file cannot be read, or LightGBM cannot read the model.
        """
        content = model_text.read(file)
        try:
            facts = text_trees.facts(model_text.header(content))
            self._booster = TextBooster(content, facts.n_features, facts.n_outputs)
        except ValueError as error:
            raise ModelLoadError(f"{file.name} is damaged: {error}") from error
        except LightGBMLibraryError as error:
            raise ModelLoadError(f"{file.name} cannot be loaded: {error}") from error
        self.n_features = facts.n_features
        self.n_outputs = facts.n_outputs
        self.objective = facts.objective
        self.feature_names = _checked_names(
            tuple(feature_names or facts.feature_names), facts.n_features, file.name
        )
        self._block_rows = max(1, _BLOCK_VALUES // facts.n_outputs)

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.serving_contract.Model.predict`; absent cells are 0."""
        n_rows = features.shape[0]
        try:
            if n_rows <= self._block_rows:
                return self._booster.predict(features)
            bounds = [*range(0, n_rows, self._block_rows), n_rows]
            blocks = (rows(features, *block) for block in pairwise(bounds))
            return np.concatenate([self._booster.predict(block) for block in blocks])
        except LightGBMLibraryError as error:
            raise PredictionError(f"LightGBM cannot predict for these records: {error}") from error


def verify(file: Path) -> Floats:
    """Validate a model that LightGBM might misread or crash on.

    Returns:
        Records that reach leaves of the model, float32 `[n, n_features]`.
    Raises:
        ModelLoadError: with the file and the problem.
    """
    content = model_text.read(file)
    try:
        records: Floats = text_trees.check(model_text.parse(content))
    except ValueError as error:
        raise ModelLoadError(f"{file.name} is damaged or not a LightGBM model: {error}") from error
    n_columns = model_text.pandas_categories(file)
    if n_columns:
        raise ModelLoadError(
            f"{file.name} was trained with {counted(n_columns, 'column')} of categories of a "
            "pandas frame, which LightGBM numbers by their order in training, so that numbers in a "
            "request would be taken for others; number the categories from 0 yourself and name the "
            "columns in categorical_feature, or predict with the frame in code/inference.py"
        )
    return records


def _checked_names(names: tuple[str, ...], n_features: int, file: str) -> tuple[str, ...] | None:
    """Return the names of all features, or None for a model without names."""
    if all(_PLACEHOLDER.fullmatch(name) for name in names):
        return None
    if len(names) != n_features or len(set(names)) < n_features:
        raise ModelLoadError(
            f"{file} has {counted(len(set(names)), 'name')} for {counted(n_features, 'feature')}; "
            "each needs a name of its own, or none has one"
        )
    return names
