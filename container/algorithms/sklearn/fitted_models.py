"""Trained models of scikit-learn's algorithms, as a server predicts with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from container.algorithms.sklearn import skops_file
from container.errors import ModelLoadError, PredictionError

LINEAR_FILE = "linear-model.json"


def classification(probabilities: NDArray[Any], classes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the outputs of a classifier as AWS's linear learner names them.

    Args:
        probabilities: `[n_rows, n_classes]`.
        classes: `[n_classes]`, text or numbers.
    Returns:
        `score`, the probability of the second of two classes, or all of more; `predicted_label`.
    """
    labels = classes[probabilities.argmax(axis=1)]
    score = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return {"score": score.astype(np.float32), "predicted_label": labels}


def whole(classes: NDArray[Any]) -> NDArray[Any]:
    """Return classes that are whole numbers as integers, others as they are."""
    if classes.dtype.kind == "f" and bool(np.all(classes == np.floor(classes))):
        return classes.astype(np.int64)
    return classes


class LinearModel:
    """Weights and intercepts: predicts without scikit-learn, and is stored as JSON."""

    def __init__(
        self,
        weights: NDArray[np.float64],
        intercepts: NDArray[np.float64],
        classes: NDArray[Any] | None,
    ) -> None:
        """Args:
        weights: `[n_features, k]`, one column for a quantity or two classes.
        intercepts: `[k]`.
        classes: `[n_classes]`, or None for a quantity.
        """
        self._weights = weights
        self._intercepts = intercepts
        self._classes = classes
        self.n_features = len(weights)
        self.n_outputs = 1 if classes is None else max(1, weights.shape[1])

    def predict(self, features: Any) -> Any:
        """See `container.algorithms.serving_contract.Model.predict`."""
        margins = features.astype(np.float64) @ self._weights + self._intercepts
        if self._classes is None:
            return margins[:, 0].astype(np.float32)
        if len(self._classes) == 2:
            positive = np.exp(-np.logaddexp(0.0, -margins[:, 0]))
            return classification(np.column_stack([1 - positive, positive]), self._classes)
        margins -= margins.max(axis=1, keepdims=True)
        exponents = np.exp(margins)
        return classification(exponents / exponents.sum(axis=1, keepdims=True), self._classes)

    def save(self, directory: Path) -> None:
        """See `container.algorithms.training_contract.TrainedModel.save`."""
        content = {
            "weights": self._weights.tolist(),
            "intercepts": self._intercepts.tolist(),
            "classes": None if self._classes is None else self._classes.tolist(),
        }
        (directory / LINEAR_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, directory: Path) -> "LinearModel":
        """Load the file of `save`; raises `ModelLoadError` for another content."""
        try:
            content = json.loads((directory / LINEAR_FILE).read_bytes())
            weights = np.array(content["weights"], dtype=np.float64)
            intercepts = np.array(content["intercepts"], dtype=np.float64)
            classes = None if content["classes"] is None else np.array(content["classes"])
            n_margins = 1 if classes is None or len(classes) == 2 else len(classes)
            is_sound = (
                weights.ndim == 2
                and weights.shape[0] > 0
                and weights.shape[1] == n_margins == len(intercepts)
                and np.isfinite(weights).all()
                and np.isfinite(intercepts).all()
                and (classes is None or classes.dtype.kind in "iufU")
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(f"{LINEAR_FILE}: {type(error).__name__}: {error}") from error
        if not is_sound:
            raise ModelLoadError(
                f"{LINEAR_FILE}: weights must be finite numbers [n_features][k], with k intercepts "
                "and k = 1 for a quantity or two classes, else the number of classes"
            )
        return cls(weights, intercepts, classes)


class EstimatorModel:
    """A fitted classifier, regressor or isolation forest."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self.n_features = int(estimator.n_features_in_)
        classes = getattr(estimator, "classes_", None)
        self._classes = None if classes is None else whole(np.asarray(classes))
        self.n_outputs = 1 if classes is None else len(classes)

    def predict(self, features: Any) -> Any:
        """See `container.algorithms.serving_contract.Model.predict`."""
        try:
            if self._classes is not None:
                return classification(self._estimator.predict_proba(features), self._classes)
            if hasattr(self._estimator, "score_samples"):
                return -self._estimator.score_samples(features).astype(np.float32)
            return self._estimator.predict(features).astype(np.float32)
        except ValueError as error:
            raise PredictionError(f"scikit-learn refused the records: {error}") from error

    def save(self, directory: Path) -> None:
        """See `container.algorithms.training_contract.TrainedModel.save`."""
        skops_file.save(self._estimator, directory)

    def importances(self) -> Mapping[str, Mapping[str, float]]:
        """See `container.algorithms.training_contract.WithImportances`."""
        values = getattr(self._estimator, "feature_importances_", None)
        if values is None:
            return {}
        return {"impurity": {f"f{index}": float(value) for index, value in enumerate(values)}}

    @classmethod
    def load(cls, directory: Path) -> "EstimatorModel":
        """Load the file of `save`; raises `ModelLoadError`."""
        estimator = skops_file.load(directory)
        if not hasattr(estimator, "n_features_in_"):
            raise ModelLoadError(
                f"{skops_file.FILE} holds a {type(estimator).__name__}, no fitted estimator"
            )
        return cls(estimator)
