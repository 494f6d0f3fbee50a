"""Hyperparameters of scikit-learn's algorithms, under the names that scikit-learn has for them.

Source: scikit-learn 1.9, API reference of each estimator, for names, defaults and ranges.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeFloat, PositiveInt

Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda text: tuple(filter(None, map(str.strip, str(text).split(","))))),
]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Supervised(_Declared):
    """Of estimators that learn a number or a class."""

    # By default the labels decide: text is classes, numbers are a quantity.
    task: Literal["auto", "regression", "classification"] = "auto"
    random_state: Seed = 0


class Linear(Supervised):
    """Of `sklearn-linear`."""

    loss: Literal["squared", "absolute"] = "squared"  # of a regression
    alpha: NonNegativeFloat = 0.0  # strength of the regularisation; of features that are scaled
    max_iter: PositiveInt = 1000


class Forest(Supervised):
    """Of `sklearn-forest`."""

    n_estimators: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_depth: PositiveInt | None = None
    min_samples_leaf: PositiveInt = 1
    max_features: Share | Literal["sqrt", "log2"] | None = None


class Boosting(Supervised):
    """Of `sklearn-boosting`, histogram-based gradient boosting."""

    max_iter: Annotated[int, Field(ge=1, le=10_000)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    max_leaf_nodes: Annotated[int, Field(ge=2)] = 31
    min_samples_leaf: PositiveInt = 20
    l2_regularization: NonNegativeFloat = 0.0
    early_stopping: Annotated[bool, Field(strict=False)] = False


class Neighbors(Supervised):
    """Of `sklearn-neighbors`."""

    n_neighbors: PositiveInt = 5
    weights: Literal["uniform", "distance"] = "uniform"
    metric: Literal["euclidean", "manhattan", "chebyshev"] = "euclidean"


class Isolation(_Declared):
    """Of `sklearn-isolation`, an isolation forest."""

    n_estimators: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_samples: Annotated[int, Field(ge=2)] = 256
    random_state: Seed = 0


class Preprocessing(_Declared):
    """Of `sklearn-preprocessor`."""

    has_label: Annotated[bool, Field(strict=False)] = True  # the first column, which is passed over
    scale: Annotated[bool, Field(strict=False)] = True  # numbers to mean 0 and variance 1
    # Names, or indices from 0 among the features, of columns whose numbers are categories.
    categorical: Names = ()
    max_categories: Annotated[int, Field(ge=2, le=10_000)] = 1000  # of a column
