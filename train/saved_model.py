"""Saving of a trained model with its manifest.

A model that says no facts about itself is described by the job, and tried with one record.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from container import __version__, manifest
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import ServingOptions
from container.algorithms.training_contract import Channel, TableChannel, TrainedModel
from container.codecs.answers import check
from container.codecs.records import SparseRows
from container.codecs.table.cells import of_record
from container.codecs.table.table import Table
from container.errors import TrainingError
from container.manifest import Framework, ModelFacts, ModelManifest


def save(
    algorithm: Algorithm,
    model: TrainedModel,
    staging: Path,
    *,
    libsvm_base: Any,
    channels: Mapping[str, Channel],
    tables: Mapping[str, TableChannel],
) -> ModelManifest:
    """Write the model and its manifest into an empty directory.

    Raises:
        TrainingError: the saved model cannot be loaded or predict one record.
    """
    facts = model.save(staging)
    if facts is not None:
        return manifest.write(staging, algorithm.name, facts, libsvm_base=libsvm_base)
    name = algorithm.required_channels[0]
    facts = _of_table(tables[name]) if tables else _of_matrix(channels[name])
    framework = Framework(name=algorithm.name, version=__version__)
    facts = facts.model_copy(update={"framework": framework})
    if tables and algorithm.records == "numbers":
        facts = facts.model_copy(update={"records": None})
    written = manifest.write(staging, algorithm.name, facts, libsvm_base=libsvm_base)
    n_outputs = _tried(algorithm, staging, written)
    facts = facts.model_copy(update={"n_outputs": n_outputs})
    (staging / manifest.MANIFEST_FILE).unlink()
    return manifest.write(staging, algorithm.name, facts, libsvm_base=libsvm_base)


def _tried(algorithm: Algorithm, directory: Path, described: ModelManifest) -> int:
    """Load the saved model and predict one record; returns its number of values."""
    try:
        model: Any = algorithm.load(directory, described, ServingOptions())
        values = model.predict(of_record(described))
        check(values, 1)
    except Exception as error:
        raise TrainingError(
            f"the model that {algorithm.name!r} saved cannot be used: "
            f"{type(error).__name__}: {error}"
        ) from error
    outputs = values.values() if isinstance(values, Mapping) else [values]
    return sum(int(np.size(each)) for each in outputs)


def _of_table(channel: TableChannel) -> ModelFacts:
    table = channel.read().records
    return ModelFacts(
        framework=Framework(name="", version=""),
        n_features=table.shape[1],
        feature_names=list(table.names) if table.names else None,
        records=table.schema,
        example=[_typical(table, index) for index in range(table.shape[1])],
    )


def _typical(table: Table, index: int) -> float | str | None:
    """Return the median of numbers, or the most frequent text: no record of a person."""
    column = table.columns[index]
    if table.kinds[index] == "text":
        given = [text for text in column if text is not None]
        return max(sorted(set(given)), key=given.count, default=None) if given else None
    return None if np.isnan(column).all() else round(float(np.nanmedian(column)), 6)


def _of_matrix(channel: Channel) -> ModelFacts:
    batch = next(iter(channel.batches()))
    example: list[float | str | None] | None = None
    n_features = batch.n_features
    if isinstance(batch.features, SparseRows):
        n_features = max(each.n_features for each in channel.batches())
    else:
        table = Table(tuple(batch.features[:1000].T.astype(np.float64)))
        example = [_typical(table, index) for index in range(n_features)]
    return ModelFacts(
        framework=Framework(name="", version=""),
        n_features=n_features,
        feature_names=list(channel.feature_names) if channel.feature_names else None,
        example=example,
    )
