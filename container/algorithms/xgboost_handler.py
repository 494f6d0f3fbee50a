"""XGBoost as an algorithm of this container: what it reads, and where its parts are.

Training imports the `xgboost` package, serving only its library; neither happens before it is
needed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from container import content_types
from container.codecs.base import Columns
from container.manifest import ModelManifest

if TYPE_CHECKING:
    from container.algorithms.base import TrainedModel, TrainingInput
    from container.algorithms.xgboost_hyperparameters import XGBoostHyperparameters
    from container.algorithms.xgboost_model import XGBoostModel


class XGBoostAlgorithm:
    """See `container.algorithms.base.Algorithm`."""

    name = "xgboost"
    required_channels = ("train",)
    optional_channels = ("validation",)
    training_types = (content_types.CSV, content_types.LIBSVM)
    request_types = (content_types.LIBSVM, content_types.CSV)
    response_types = (content_types.CSV, content_types.JSON)
    is_fork_safe = True
    is_thread_safe = True

    def hyperparameters(self) -> "type[XGBoostHyperparameters]":
        from container.algorithms.xgboost_hyperparameters import XGBoostHyperparameters

        return XGBoostHyperparameters

    def columns(self, hyperparameters: "XGBoostHyperparameters") -> Columns:
        return Columns(label_size=1, has_weight=hyperparameters.csv_weights == 1)

    def fit(self, job: "TrainingInput") -> "TrainedModel":
        from container.algorithms.xgboost_training import fit

        return fit(job)

    def recognises(self, directory: Path) -> bool:
        from container.algorithms.xgboost_model import find_model_file

        return find_model_file(directory) is not None

    def load(self, directory: Path, manifest: ModelManifest | None) -> "XGBoostModel":
        from container.algorithms.xgboost_model import MODEL_FILE, XGBoostModel, find_model_file

        file = (find_model_file(directory) if manifest is None else None) or directory / MODEL_FILE
        best_iteration = manifest.model.best_iteration if manifest else None
        return XGBoostModel(file, best_iteration=best_iteration)


ALGORITHM = XGBoostAlgorithm()
