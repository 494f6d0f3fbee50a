"""LightGBM as an algorithm of this container: formats, capabilities, entry points.

Training imports the `lightgbm` package, serving only its library; neither happens before it is
needed. The slim image has neither: jobs and models there fail with a message that says so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container import content_types
from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities
from container.codecs.records import Columns, Floats
from container.manifest import ModelManifest

if TYPE_CHECKING:
    from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
    from container.algorithms.lightgbm.serving.text_model import LightGBMModel
    from container.algorithms.lightgbm.serving.user_lightgbm import UserLightGBM
    from container.algorithms.serving_contract import ServingOptions
    from container.algorithms.training_contract import TrainedModel, TrainingInput


class LightGBMAlgorithm(Algorithm):
    """LightGBM; see `container.algorithms.contract.Algorithm`."""

    name = "lightgbm"
    training_types = (
        content_types.CSV,
        content_types.LIBSVM,
        content_types.PARQUET,
        content_types.RECORDIO,
    )
    request_types = (
        content_types.CSV,
        content_types.LIBSVM,
        content_types.JSON,
        content_types.JSON_LINES,
        content_types.RECORDIO,
        content_types.NPY,
        content_types.NPZ,
        content_types.PARQUET,
    )
    # The library releases the interpreter lock, and predicts with one thread here, so that it has
    # no threads that a fork would lose.
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
    )

    def hyperparameters(self) -> "type[LightGBMHyperparameters]":
        from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters

        return LightGBMHyperparameters

    def columns(self, hyperparameters: "LightGBMHyperparameters") -> Columns:
        return Columns(
            label_size=1,
            has_weight=hyperparameters.csv_weights,
            group_column=hyperparameters.group_column,
        )

    def fit(self, job: "TrainingInput") -> "TrainedModel":
        from container.algorithms.lightgbm.training.lightgbm_fit import fit

        return fit(job)

    def recognises(self, directory: Path) -> bool:
        from container.algorithms.lightgbm.formats import model_text

        return model_text.recognises(directory)

    def verify(self, directory: Path, manifest: ModelManifest | None) -> Floats:
        from container.algorithms.lightgbm.formats.model_text import model_file
        from container.algorithms.lightgbm.serving.text_model import verify

        return verify(model_file(directory, manifest))

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: "ServingOptions"
    ) -> "LightGBMModel":
        from container.algorithms.lightgbm.formats.model_text import model_file
        from container.algorithms.lightgbm.serving.text_model import LightGBMModel

        names = manifest.model.feature_names if manifest else None
        return LightGBMModel(model_file(directory, manifest), feature_names=names)

    def adopt(self, model: object) -> "UserLightGBM | None":
        """See `container.algorithms.serving_contract.Adopting`."""
        from container.algorithms.lightgbm.serving.user_lightgbm import adopt

        return adopt(model)

    def select(self, model: "LightGBMModel", values: Floats, keys: Sequence[str]) -> dict[str, Any]:
        from container.algorithms.lightgbm.serving.class_outputs import select

        return select(values, keys, objective=model.objective)


ALGORITHM = LightGBMAlgorithm()
