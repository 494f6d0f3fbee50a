"""The hyperparameters of LightGBM as a declaration: names, types, ranges.

The names, their aliases and the ranges are LightGBM's own; AWS's built-in LightGBM uses the same
names. Parameters of LightGBM's command line (files, machines, GPUs) are left out.

Source: LightGBM 4.6, "Parameters"; Amazon SageMaker AI, "LightGBM hyperparameters".
"""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from container.algorithms.lightgbm.parameter_aliases import (
    ALIASES,
    FOREIGN_NAMES,
    METRICS,
    OBJECTIVES,
)
from container.errors import HyperparameterError

Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(le=2**31 - 1)]  # what LightGBM's own integers hold
Seed = Annotated[int, Field(ge=-(2**31), lt=2**31)]

_RANKING = frozenset({"lambdarank", "rank_xendcg"})
_OF_CLASSES = frozenset({"multiclass", "multiclassova"})
_OF_LISTS = frozenset({"ndcg", "map"})
_OF_CLASS_METRICS = frozenset({"multi_logloss", "multi_error", "auc_mu"})
_MAXIMIZED = frozenset({"auc", "average_precision", "auc_mu", "ndcg", "map"})
# Not sent to LightGBM: they steer the job around it.
_OF_THE_JOB = frozenset(
    {
        *("num_iterations", "early_stopping_round", "early_stopping_min_delta", "metric"),
        *("first_metric_only", "csv_weights", "group_column", "categorical_feature"),
        *("tuning_objective_metric", "tree_learner", "use_dask", "top_k", "device_type"),
    }
)
# A resumed job may change these: none of them alters the rounds that a checkpoint holds.
_NOT_BINDING = frozenset({"num_iterations", "verbosity", "use_dask"})


def _items(text: str) -> object:
    """Read `1,2`, `(1,2)` or `[1,2]`."""
    parts = text.strip("[]() ").split(",")
    return [part.strip().strip("'\"") for part in parts if part.strip()]


def _features(text: str) -> object:
    """Read `0,3`, `[0,3]`, `color,size` or `name:color,size`."""
    items = _items(text.removeprefix("name:"))
    is_named = text.startswith("name:")
    return [
        int(item) if item.isascii() and item.isdigit() and not is_named else item
        for item in (items if isinstance(items, list) else [])
    ]


def _lists(text: str) -> object:
    """Read `[0,1],[2]` or `[[0,1],[2]]` as data."""
    try:
        return json.loads(text if text.startswith("[[") else f"[{text}]")
    except (ValueError, RecursionError) as error:
        raise ValueError("lists of column numbers such as [0,1],[2,3] are expected") from error


def _column(text: str) -> object:
    """Read the number of a column, or its name."""
    given = text.removeprefix("name:")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else given


def _objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"use one of {', '.join(sorted(set(OBJECTIVES.values())))}")
    return OBJECTIVES[name]


def _metrics(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        known = ", ".join(sorted(set(METRICS.values())))
        raise ValueError(f"{unknown[0][:60]!r} is not a metric here; use some of {known}")
    return list(dict.fromkeys(METRICS[name] for name in names))


def _metric_names(text: str) -> object:
    return [] if text in ("", "auto", '""') else _items(text)  # AWS's default is `auto`


Objective = Annotated[str, AfterValidator(_objective)]
Metrics = Annotated[list[str], BeforeValidator(_metric_names), AfterValidator(_metrics)]
Features = Annotated[
    list[Annotated[int, Field(ge=0)] | str], BeforeValidator(_features), Field(min_length=1)
]
Numbers = Annotated[list[float], BeforeValidator(_items), Field(min_length=1)]
Sizes = Annotated[list[Annotated[int, Field(ge=1)]], BeforeValidator(_items), Field(min_length=1)]
Monotone = Annotated[list[int], BeforeValidator(_items), Field(min_length=1)]
Interactions = Annotated[list[list[Annotated[int, Field(ge=0)]]], BeforeValidator(_lists)]
Column = Annotated[int | str, BeforeValidator(_column)]


def _names(name: str) -> AliasChoices:
    """Return the names of a field in `hyperparameters.json`, LightGBM's own first."""
    aliases = ALIASES.get(name, ())
    return AliasChoices(*aliases) if aliases[:1] == (f"_{name}",) else AliasChoices(name, *aliases)


class LightGBMHyperparameters(BaseModel):
    """Hyperparameters of a training job; unset ones keep LightGBM's own default."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        alias_generator=AliasGenerator(validation_alias=_names),
    )
    FOREIGN_NAMES: ClassVar = FOREIGN_NAMES

    num_iterations: Size = Field(100, ge=1)
    objective: Objective = "regression"
    boosting: Literal["gbdt", "dart", "rf"] = "gbdt"
    data_sample_strategy: Literal["bagging", "goss"] | None = None
    num_class: Size | None = Field(None, ge=1)
    metric: Metrics = Field(default_factory=list)
    early_stopping_round: Size | None = Field(None, ge=0)
    early_stopping_min_delta: NonNegative = 0.0
    first_metric_only: bool = False
    categorical_feature: Features | None = None
    csv_weights: bool = False
    group_column: Column | None = None
    tuning_objective_metric: str | None = None

    learning_rate: Positive | None = None
    num_leaves: int | None = Field(None, ge=2, le=131072)
    max_depth: Size | None = Field(None, ge=-1)
    min_data_in_leaf: Size | None = Field(None, ge=0)
    min_sum_hessian_in_leaf: NonNegative | None = None
    bagging_fraction: Share | None = None
    pos_bagging_fraction: Share | None = None
    neg_bagging_fraction: Share | None = None
    bagging_freq: Size | None = Field(None, ge=0)
    bagging_by_query: bool | None = None
    feature_fraction: Share | None = None
    feature_fraction_bynode: Share | None = None
    extra_trees: bool | None = None
    max_delta_step: float | None = None
    lambda_l1: NonNegative | None = None
    lambda_l2: NonNegative | None = None
    linear_lambda: NonNegative | None = None
    min_gain_to_split: NonNegative | None = None
    path_smooth: NonNegative | None = None
    drop_rate: Probability | None = None
    max_drop: Size | None = None
    skip_drop: Probability | None = None
    xgboost_dart_mode: bool | None = None
    uniform_drop: bool | None = None
    top_rate: Probability | None = None
    other_rate: Probability | None = None
    min_data_per_group: Size | None = Field(None, ge=1)
    max_cat_threshold: Size | None = Field(None, ge=1)
    cat_l2: NonNegative | None = None
    cat_smooth: NonNegative | None = None
    max_cat_to_onehot: Size | None = Field(None, ge=1)
    monotone_constraints: Monotone | None = None
    monotone_constraints_method: Literal["basic", "intermediate", "advanced"] | None = None
    monotone_penalty: NonNegative | None = None
    interaction_constraints: Interactions | None = None
    feature_contri: Numbers | None = None
    cegb_tradeoff: NonNegative | None = None
    cegb_penalty_split: NonNegative | None = None
    linear_tree: bool | None = None
    use_quantized_grad: bool | None = None
    num_grad_quant_bins: Size | None = Field(None, ge=2)
    quant_train_renew_leaf: bool | None = None
    stochastic_rounding: bool | None = None

    max_bin: Size | None = Field(None, ge=2)
    max_bin_by_feature: Sizes | None = None
    min_data_in_bin: Size | None = Field(None, ge=1)
    bin_construct_sample_cnt: Size | None = Field(None, ge=1)
    is_enable_sparse: bool | None = None
    enable_bundle: bool | None = None
    use_missing: bool | None = None
    zero_as_missing: bool | None = None
    feature_pre_filter: bool | None = None
    histogram_pool_size: float | None = None

    is_unbalance: bool | None = None
    scale_pos_weight: Positive | None = None
    sigmoid: Positive | None = None
    boost_from_average: bool | None = None
    reg_sqrt: bool | None = None
    alpha: Positive | None = None
    fair_c: Positive | None = None
    poisson_max_delta_step: Positive | None = None
    tweedie_variance_power: float | None = Field(None, ge=1, lt=2)
    lambdarank_truncation_level: Size | None = Field(None, ge=1)
    lambdarank_norm: bool | None = None
    label_gain: Numbers | None = None
    eval_at: Sizes | None = None
    multi_error_top_k: Size | None = Field(None, ge=1)

    seed: Seed | None = None
    bagging_seed: Seed | None = None
    feature_fraction_seed: Seed | None = None
    drop_seed: Seed | None = None
    extra_seed: Seed | None = None
    objective_seed: Seed | None = None
    data_random_seed: Seed | None = None
    deterministic: bool = True
    force_col_wise: bool | None = None
    force_row_wise: bool | None = None
    num_threads: Size | None = Field(None, ge=0)
    verbosity: int = Field(1, ge=-1, le=2)
    device_type: Literal["cpu"] | None = None
    tree_learner: Literal["serial", "feature", "data", "voting"] | None = None
    top_k: Size | None = Field(None, ge=1)
    use_dask: bool = False

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self._check_classes()
        self._check_metrics()
        self._check_sampling()
        if self.is_unbalance and self.scale_pos_weight is not None:
            raise HyperparameterError(
                "is_unbalance", "and scale_pos_weight exclude each other; keep one of them"
            )
        if self.force_col_wise and self.force_row_wise:
            raise HyperparameterError(
                "force_col_wise", "and force_row_wise exclude each other; keep one of them"
            )
        if self.use_dask:
            raise HyperparameterError(
                "use_dask", "true is not supported: LightGBM trains on one host here; leave it out"
            )
        if self.group_column in range(1 + self.csv_weights):
            raise HyperparameterError(
                "group_column",
                f"is {self.group_column}, the column of the label or the weight; columns count "
                f"from 0, so use {1 + self.csv_weights} or more, or a name",
            )
        return self

    def _check_classes(self) -> None:
        is_of_classes = self.objective in _OF_CLASSES
        if is_of_classes and (self.num_class or 1) < 2:
            raise HyperparameterError(
                "num_class",
                f"is required with objective={self.objective!r}: the number of classes, at least 2",
            )
        if not is_of_classes and (self.num_class or 1) > 1:
            raise HyperparameterError(
                "num_class",
                f"{self.num_class} is only for objective multiclass and multiclassova; given: "
                f"{self.objective}",
            )

    def _check_metrics(self) -> None:
        for metric in self.metric:
            if (metric in _OF_CLASS_METRICS) != (self.objective in _OF_CLASSES):
                accepted = "multi_logloss, multi_error and auc_mu"
                is_for = "are for" if self.objective in _OF_CLASSES else "are only for"
                raise HyperparameterError(
                    "metric",
                    f"{metric!r} does not fit objective={self.objective!r}: {accepted} {is_for} "
                    "objective multiclass and multiclassova",
                )

    def _check_sampling(self) -> None:
        if self.boosting != "rf":
            return
        bags = (self.bagging_freq or 0) > 0 and (self.bagging_fraction or 1) < 1
        if not bags and (self.feature_fraction or 1) == 1:
            raise HyperparameterError(
                "boosting",
                "'rf' needs samples to grow different trees from: set bagging_freq to 1 and "
                "bagging_fraction below 1, or feature_fraction below 1",
            )
        if self.early_stopping_round:
            raise HyperparameterError(
                "early_stopping_round", "has no meaning with boosting='rf'; leave it out"
            )

    @property
    def is_ranking(self) -> bool:
        """True if the objective ranks the records of a list."""
        return self.objective in _RANKING

    @property
    def uses_lists(self) -> bool:
        """True if the objective or a metric works on lists of records."""
        return self.is_ranking or any(metric in _OF_LISTS for metric in self.metrics)

    @property
    def metrics(self) -> list[str]:
        """The metrics to compute, with the one that a tuning job watches (C-013)."""
        watched = (self.tuning_objective_metric or "").rpartition(":")[2].partition("@")[0]
        if self.metric and watched in METRICS and METRICS[watched] not in self.metric:
            return [*self.metric, METRICS[watched]]
        return self.metric

    @property
    def samples_records(self) -> bool:
        """True if rounds are trained on samples of records, in bags."""
        return (self.bagging_freq or 0) > 0 and any(
            share < 1 for share in self.bagging_shares().values()
        )

    @property
    def is_random(self) -> bool:
        """True if rounds draw random numbers."""
        features = (self.feature_fraction or 1) < 1 or (self.feature_fraction_bynode or 1) < 1
        return self.samples_records or features or bool(self.extra_trees) or self.resumes_otherwise

    @property
    def resumes_otherwise(self) -> bool:
        """True if rounds draw random numbers that no seed of a round governs."""
        is_by_objective = self.objective == "rank_xendcg"
        is_by_gradient = self.data_sample_strategy == "goss" or bool(self.use_quantized_grad)
        return is_by_objective or is_by_gradient

    def bagging_shares(self) -> dict[str, float]:
        """Return the shares of records in a bag that the job sets."""
        names = ("bagging_fraction", "pos_bagging_fraction", "neg_bagging_fraction")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def seeds_of_round(self, number: int) -> dict[str, int]:
        """Return the seeds of a round: a bag is that of `bagging_freq` rounds."""
        steps = {"bagging_seed": max(1, self.bagging_freq or 1)}
        names = ("bagging_seed", "feature_fraction_seed", "extra_seed")
        return {
            name: ((getattr(self, name) or self.seed or 0) + number // steps.get(name, 1)) % 2**31
            for name in names
        }

    def for_lightgbm(self) -> dict[str, Any]:
        """Return the parameters to train with."""
        given = self.model_dump(exclude_none=True, exclude=set(_OF_THE_JOB))
        if self.metrics:
            given["metric"] = self.metrics
        if not self.num_threads:
            given.pop("num_threads", None)
        return given

    def binding(self) -> dict[str, object]:
        """Return the facts that a checkpoint and a resumed job must have in common."""
        given = self.model_dump(exclude_none=True, exclude=set(_NOT_BINDING))
        return {f"hyperparameter {name}": value for name, value in sorted(given.items())}


def is_better_larger(metric: str) -> bool:
    """True if a larger value of `metric` is better; `ndcg@3` is as `ndcg`."""
    return metric.partition("@")[0] in _MAXIMIZED
