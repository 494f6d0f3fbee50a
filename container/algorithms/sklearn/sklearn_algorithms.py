"""The algorithms of scikit-learn, one class each; scikit-learn is imported when one trains.

A linear model and a preprocessor are stored as JSON and predict with NumPy alone; the others are
stored as skops files.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from container.algorithms.contract import Algorithm
from container.algorithms.serving_contract import Capabilities, ServingOptions
from container.algorithms.sklearn import estimator_hyperparameters as declared
from container.algorithms.sklearn.fitted_models import EstimatorModel, LinearModel, whole
from container.algorithms.sklearn.table_preprocessor import Preprocessor
from container.algorithms.training_contract import TrainingInput
from container.codecs.records import Columns, Floats
from container.errors import TrainingError
from container.manifest import ModelManifest


class _Supervised(Algorithm):
    """Learns a quantity or classes from numbers."""

    labels = "classes"
    output_keys = ("score", "predicted_label")
    capabilities = Capabilities(is_thread_safe=True)

    def fit(self, job: TrainingInput) -> Any:
        examples = job.tables["train"].read()
        if examples.labels is None:
            raise TrainingError("there are no labels")
        labels = examples.labels
        task = job.hyperparameters.task
        is_text = labels.dtype == object
        if task == "regression" and is_text:
            raise TrainingError(
                "task=regression, and the labels are text; leave task out, or give numbers"
            )
        classes = is_text or task == "classification"
        targets = labels.astype(str) if is_text else labels
        if classes and len(np.unique(targets)) < 2:
            raise TrainingError("all labels are the same class; a classifier needs two at least")
        features = examples.records.matrix()
        try:
            return self._fitted(features, targets, job, is_classifier=classes)
        except ValueError as error:
            raise TrainingError(f"scikit-learn refused to train: {error}") from error

    def _fitted(
        self, features: Floats, targets: NDArray[Any], job: TrainingInput, *, is_classifier: bool
    ) -> Any:
        estimator = self._estimator(job.hyperparameters, job.n_threads, is_classifier=is_classifier)
        estimator.fit(features, targets)
        if "n_jobs" in estimator.get_params():
            estimator.set_params(n_jobs=None)  # a request is predicted by one thread
        return EstimatorModel(estimator)

    def _estimator(self, options: Any, n_threads: int, *, is_classifier: bool) -> Any:
        raise NotImplementedError

    def load(self, directory: Path, manifest: ModelManifest | None, options: ServingOptions) -> Any:
        return EstimatorModel.load(directory)

    def select(self, model: Any, values: Any, keys: Any) -> dict[str, Any]:
        """Return NaN for the label of a quantity, as for XGBoost's objectives."""
        return {key: values if key == "score" else np.full(len(values), np.nan) for key in keys}


class LinearAlgorithm(_Supervised):
    """Linear regression, squared or absolute loss, and logistic regression."""

    name = "sklearn-linear"
    capabilities = Capabilities(is_fork_safe=True, is_thread_safe=True, is_quick=True)

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Linear

    def _fitted(
        self, features: Floats, targets: NDArray[Any], job: TrainingInput, *, is_classifier: bool
    ) -> LinearModel:
        from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

        scaler = StandardScaler().fit(features.astype(np.float64))
        estimator = self._estimator(job.hyperparameters, job.n_threads, is_classifier=is_classifier)
        estimator.fit(scaler.transform(features.astype(np.float64)), targets)
        # The scaler becomes part of the weights: serving multiplies once.
        weights = np.atleast_2d(estimator.coef_).T / scaler.scale_[:, None]
        intercepts = np.atleast_1d(estimator.intercept_) - scaler.mean_ @ weights
        classes = whole(estimator.classes_) if is_classifier else None
        return LinearModel(weights, intercepts, classes)

    def _estimator(self, options: declared.Linear, n_threads: int, *, is_classifier: bool) -> Any:
        from sklearn import linear_model  # type: ignore[import-untyped]

        if is_classifier:
            strength = np.inf if options.alpha == 0 else 1 / options.alpha
            return linear_model.LogisticRegression(
                C=strength, max_iter=options.max_iter, random_state=options.random_state
            )
        if options.loss == "absolute":
            return linear_model.QuantileRegressor(quantile=0.5, alpha=options.alpha)
        if options.alpha == 0:
            return linear_model.LinearRegression()
        return linear_model.Ridge(alpha=options.alpha, random_state=options.random_state)

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> LinearModel:
        return LinearModel.load(directory)


class ForestAlgorithm(_Supervised):
    """Random forest."""

    name = "sklearn-forest"

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Forest

    def _estimator(self, options: declared.Forest, n_threads: int, *, is_classifier: bool) -> Any:
        from sklearn import ensemble

        make = ensemble.RandomForestClassifier if is_classifier else ensemble.RandomForestRegressor
        given = options.model_dump(exclude={"task", "max_features"})
        max_features = options.max_features or ("sqrt" if is_classifier else 1.0)
        return make(n_jobs=n_threads, max_features=max_features, **given)


class BoostingAlgorithm(_Supervised):
    """Histogram-based gradient boosting, which takes missing values."""

    name = "sklearn-boosting"
    capabilities = Capabilities(is_thread_safe=True, takes_missing=True)

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Boosting

    def _estimator(self, options: declared.Boosting, n_threads: int, *, is_classifier: bool) -> Any:
        from sklearn import ensemble

        make = (
            ensemble.HistGradientBoostingClassifier
            if is_classifier
            else ensemble.HistGradientBoostingRegressor
        )
        return make(**options.model_dump(exclude={"task"}))


class NeighborsAlgorithm(_Supervised):
    """K nearest neighbours."""

    name = "sklearn-neighbors"

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Neighbors

    def _estimator(
        self, options: declared.Neighbors, n_threads: int, *, is_classifier: bool
    ) -> Any:
        from sklearn import neighbors

        make = neighbors.KNeighborsClassifier if is_classifier else neighbors.KNeighborsRegressor
        return make(n_jobs=n_threads, **options.model_dump(exclude={"task", "random_state"}))


class IsolationAlgorithm(Algorithm):
    """Isolation forest: an anomaly score without labels, the higher the stranger."""

    name = "sklearn-isolation"
    capabilities = Capabilities(is_thread_safe=True)

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Isolation

    def columns(self, hyperparameters: Any) -> Columns:
        return Columns(label_size=0)

    def fit(self, job: TrainingInput) -> EstimatorModel:
        from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

        options = job.hyperparameters
        batches = [np.array(each.features) for each in job.channels["train"].batches()]
        features = np.concatenate(batches)
        if np.isnan(features).any():
            raise TrainingError("a value is missing, and an isolation forest needs all of them")
        given = options.model_dump() | {"max_samples": min(options.max_samples, len(features))}
        return EstimatorModel(IsolationForest(**given).fit(features))

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> EstimatorModel:
        return EstimatorModel.load(directory)


class PreprocessorAlgorithm(Algorithm):
    """The first container of a pipeline: answers with the transformed row."""

    name = "sklearn-preprocessor"
    records = "table"
    capabilities = Capabilities(
        is_fork_safe=True,
        is_thread_safe=True,
        is_quick=True,
        takes_missing=True,
        passes_label=True,
    )

    def hyperparameters(self) -> type[BaseModel]:
        return declared.Preprocessing

    def columns(self, hyperparameters: Any) -> Columns:
        return Columns(label_size=int(hyperparameters.has_label))

    def fit(self, job: TrainingInput) -> Preprocessor:
        return Preprocessor.fit(job.tables["train"].read().records, job.hyperparameters)

    def load(
        self, directory: Path, manifest: ModelManifest | None, options: ServingOptions
    ) -> Preprocessor:
        return Preprocessor.load(directory)


LINEAR = LinearAlgorithm()
FOREST = ForestAlgorithm()
BOOSTING = BoostingAlgorithm()
NEIGHBORS = NeighborsAlgorithm()
ISOLATION = IsolationAlgorithm()
PREPROCESSOR = PreprocessorAlgorithm()
