"""A trained XGBoost model, loaded to predict.

A model that was stopped early predicts with its best iteration: XGBoost's own `Booster.predict`
and AWS's image use every tree that is in the file, which moved probabilities by up to 0.5 in a
test.
"""

from dataclasses import replace
from pathlib import Path

from container.algorithms.xgboost_library import Booster, XGBoostLibraryError, prediction_config
from container.codecs.base import Floats, SparseRows
from container.errors import ModelLoadError, PredictionError

MODEL_FILE = "xgboost-model"
# What a model without a manifest may be called besides.
_SUFFIXES = (".ubj", ".json")


class XGBoostModel:
    """See `container.algorithms.base.Model`. Thread-safe; usable in a forked process."""

    def __init__(self, file: Path, *, best_iteration: int | None = None) -> None:
        """Load `file`.

        Args:
            file: The model in UBJSON or JSON.
            best_iteration: The last round to predict with; by default what the file itself says.
        Raises:
            ModelLoadError: the file cannot be read or is not a model that this XGBoost knows.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ModelLoadError(f"{file.name} cannot be read: {error.strerror}") from error
        if not content.startswith(b"{"):
            raise ModelLoadError(
                f"{file.name} is not an XGBoost model in UBJSON or JSON "
                f"({'it is empty' if not content else 'it does not begin with a brace'}); "
                "save it with Booster.save_model('model.ubj') and a current XGBoost"
            )
        try:
            self._booster = Booster(content, n_threads=1)
            self.n_features = self._booster.n_features()
            learner = self._booster.config()["learner"]
        except XGBoostLibraryError as error:
            raise ModelLoadError(f"{file.name} cannot be loaded: {error}") from error
        self.objective: str = learner["objective"]["name"]
        is_linear = learner["gradient_booster"]["name"] == "gblinear"
        self._predict = self._booster.predict_by_matrix if is_linear else self._booster.predict
        if best_iteration is None:
            best_iteration = int(self._booster.attribute("best_iteration") or -1)
        self._config = prediction_config(n_rounds=0 if is_linear else best_iteration + 1)

    def predict(self, features: Floats | SparseRows) -> Floats:
        """See `container.algorithms.base.Model.predict`."""
        if isinstance(features, SparseRows):  # only as wide as the last column that occurs in it
            features = replace(features, n_columns=self.n_features)
        try:
            return self._predict(features, self._config)
        except XGBoostLibraryError as error:
            raise PredictionError(f"XGBoost cannot predict for these records: {error}") from error


def find_model_file(directory: Path) -> Path | None:
    """The model in a directory without a manifest: `xgboost-model`, else the only model file."""
    named = directory / MODEL_FILE
    if named.is_file():
        return named
    if not directory.is_dir():
        return None
    candidates = [
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES and not path.name.startswith(".")
    ]
    if len(candidates) > 1:
        raise ModelLoadError(
            f"several model files: {', '.join(path.name for path in candidates)}; "
            f"keep one, or name it {MODEL_FILE}"
        )
    return candidates[0] if candidates else None
