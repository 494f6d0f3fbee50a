"""What every codec speaks: batches of records in, predictions out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Records in compressed sparse row form; a cell that is not stored is missing."""

    offsets: NDArray[np.int64]  # [n_rows + 1], where each row starts in `columns` and `values`
    columns: NDArray[np.int32]
    values: Floats
    n_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.offsets) - 1, self.n_columns


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded records.

    `features` is float32 `[n_rows, n_features]`, C-contiguous with NaN for a missing cell, or
    sparse. `labels` and `weights` are float32 `[n_rows]`, or None where the records have none.
    """

    features: Floats | SparseRows
    labels: Floats | None = None
    weights: Floats | None = None

    @property
    def n_rows(self) -> int:
        return int(self.features.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.features.shape[1])


@dataclass(frozen=True, slots=True)
class Columns:
    """How a record's leading columns are to be read: `label_size` labels, then a weight or none."""

    label_size: int = 0
    has_weight: bool = False

    @property
    def n_leading(self) -> int:
        return self.label_size + self.has_weight
