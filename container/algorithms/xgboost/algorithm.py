"""XGBoost as an algorithm of this container: formats, capabilities, entry points.

Training imports the `xgboost` package, serving only its library; neither happens before it is
needed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container import content_types
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities
from container.codecs.records import Columns, Floats
from container.errors import ModelLoadError
from container.manifest import ModelManifest

if TYPE_CHECKING:
    from container.algorithms.serving_contract import ServingOptions
    from container.algorithms.training_contract import TrainedModel, TrainingInput
    from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
    from container.algorithms.xgboost.serving.model import XGBoostEnsemble, XGBoostModel
    from container.algorithms.xgboost.serving.user_booster import UserBooster


class XGBoostAlgorithm(Algorithm):
    """XGBoost; see `container.algorithms.contract.Algorithm`."""

    name = "xgboost"
    training_types = (
        content_types.CSV,
        content_types.LIBSVM,
        content_types.PARQUET,
        content_types.RECORDIO,
    )
    request_types = (
        content_types.LIBSVM,
        content_types.CSV,
        content_types.JSON,
        content_types.JSON_LINES,
        content_types.RECORDIO,
        content_types.NPY,
        content_types.NPZ,
        content_types.PARQUET,
    )
    is_distributed = True
    # The library releases the interpreter lock, and a loaded model predicts with one thread.
    capabilities = Capabilities(
        is_fork_safe=True,
        is_thread_safe=True,
        is_quick=True,
        predicts_row_blocks=True,
        takes_missing=True,
        takes_sparse=True,
    )
    output_keys = (
        *("predicted_score", "predicted_label", "labels", "probability", "probabilities"),
        *("raw_score", "raw_scores"),
    )

    def hyperparameters(self) -> "type[XGBoostHyperparameters]":
        from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters

        return XGBoostHyperparameters

    def columns(self, hyperparameters: "XGBoostHyperparameters") -> Columns:
        return Columns(
            label_size=1,
            has_weight=hyperparameters.csv_weights == 1,
            group_column=hyperparameters.group_column,
        )

    def fit(self, job: "TrainingInput") -> "TrainedModel":
        from container.algorithms.xgboost.training.fit import fit

        return fit(job)

    def recognises(self, directory: Path) -> bool:
        from container.algorithms.xgboost.formats import discovery

        return discovery.recognises(directory)

    def verify(self, directory: Path, manifest: ModelManifest | None) -> Floats:
        from container.algorithms.xgboost.serving.model import verify

        return verify(self._files(directory, manifest))

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: "ServingOptions"
    ) -> "XGBoostModel | XGBoostEnsemble":
        from container.algorithms.xgboost.serving.model import XGBoostEnsemble, XGBoostModel

        files = self._files(directory, manifest)
        feature_names = manifest.model.feature_names if manifest else None
        if len(files) == 1 or not options.ensemble:
            best_iteration = manifest.model.best_iteration if manifest else None
            return XGBoostModel(
                files[0], best_iteration=best_iteration, feature_names=feature_names
            )
        return XGBoostEnsemble([XGBoostModel(file, feature_names=feature_names) for file in files])

    def preload(self) -> None:
        """See `container.algorithms.serving_contract.Preloadable`."""
        from container.algorithms.xgboost.serving.model import preload

        preload()

    def adopt(self, model: object) -> "UserBooster | None":
        """See `container.algorithms.serving_contract.Adopting`."""
        from container.algorithms.xgboost.serving.user_booster import adopt

        return adopt(model)

    def select(
        self, model: "XGBoostModel | XGBoostEnsemble", values: Floats, keys: Sequence[str]
    ) -> dict[str, Any]:
        from container.algorithms.xgboost.serving.outputs import select

        return select(values, keys, objective=model.objective, n_classes=model.n_classes)

    @staticmethod
    def _files(directory: Path, manifest: ModelManifest | None) -> list[Path]:
        from container.algorithms.xgboost.formats.discovery import model_files

        files = model_files(directory, manifest)
        if not files:
            problem = "holds no XGBoost model"
            if manifest is not None:
                problem = "has a manifest that names no file called as a model is, xgboost-model"
            raise ModelLoadError(f"the model directory {problem}")
        return files


ALGORITHM = XGBoostAlgorithm()
