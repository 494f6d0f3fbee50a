"""The hyperparameters of XGBoost: the table of AWS's built-in algorithm as a declaration.

Source: CONTRACT 7.1, read from AWS's XGBoost container. Constraints are parsed as JSON, never
evaluated. Where a parameter has no effect in current XGBoost it is accepted and reported, so that
jobs written for older images still run.
"""

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from container.algorithms.xgboost_metrics import check_metrics
from container.errors import HyperparameterError

Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Size = Annotated[int, Field(le=2**31 - 1)]  # what XGBoost's own integers hold
Flag = Literal[0, 1]
Truth = Annotated[Literal["true", "false"], BeforeValidator(lambda text: str(text).lower())]

_GROWING = frozenset({"grow_colmaker", "grow_histmaker", "grow_skmaker", "grow_quantile_histmaker"})
_LINEAR = frozenset({"shotgun", "coord_descent"})
_REMOVED = frozenset({"distcol", "grow_skmaker", "sync"})
_UPDATERS = (_GROWING | _LINEAR | {"refresh", "prune"}) - _REMOVED

# Not sent to XGBoost: they steer the job around it.
_OF_THE_JOB = frozenset(
    {
        "num_round",
        "early_stopping_rounds",
        "eval_metric",
        "csv_weights",
        "save_model_on_termination",
        "tuning_objective_metric",
        "kfold",
        "num_cv_round",
        "use_dask_gpu_training",
    }
)
# Known to older versions; XGBoost 3 would warn that they are not used.
_WITHOUT_EFFECT = frozenset(
    {
        *("deterministic_histogram", "dsplit", "lambda_bias", "predictor", "prob_buffer_row"),
        *("silent", "single_precision_histogram", "sketch_eps"),
    }
)
# What scikit-learn, LightGBM, CatBoost, XGBoost's Python packages and its older versions call
# them, in lower case.
_FOREIGN_NAMES = {
    **dict.fromkeys(
        (
            *("n_estimators", "num_boost_round", "num_rounds", "n_rounds", "nrounds", "nround"),
            *("num_iterations", "n_iter", "iterations", "num_trees", "n_trees", "epochs"),
        ),
        "num_round",
    ),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("n_jobs", "num_threads", "n_threads", "thread_count"), "nthread"),
    **dict.fromkeys(("verbose", "verbose_eval"), "verbosity"),
    **dict.fromkeys(("lr", "shrinkage", "shrinkage_rate"), "eta"),
    **dict.fromkeys(("l2_leaf_reg", "lambda_l2", "l2_regularization"), "lambda"),
    **dict.fromkeys(("lambda_l1", "l1_regularization"), "alpha"),
    **dict.fromkeys(("min_gain_to_split", "min_impurity_decrease"), "gamma"),
    **dict.fromkeys(("num_leaves", "max_leaf_nodes"), "max_leaves"),
    **dict.fromkeys(("colsample", "feature_fraction", "max_features"), "colsample_bytree"),
    **dict.fromkeys(("bagging_fraction", "subsample_ratio"), "subsample"),
    **dict.fromkeys(("metric", "metrics", "scoring"), "eval_metric"),
    **dict.fromkeys(("loss", "loss_function", "criterion"), "objective"),
    **dict.fromkeys(("n_classes", "num_classes", "classes_count"), "num_class"),
    **dict.fromkeys(
        ("early_stopping", "early_stopping_round", "od_wait", "n_iter_no_change"),
        "early_stopping_rounds",
    ),
    **dict.fromkeys(("class_weight", "is_unbalance"), "scale_pos_weight"),
    **dict.fromkeys(("sample_weight", "weight", "weights"), "csv_weights"),
    **dict.fromkeys(("boosting", "boosting_type", "boost"), "booster"),
    **dict.fromkeys(("folds", "n_folds", "kfold", "cv"), "_kfold"),
    "init_score": "base_score",
}

_EXPECTED_CONSTRAINTS = "a list of integers in brackets is expected"
_CONSTRAINTS = re.compile(r"[\d\s,()\[\]+-]+", re.ASCII)
_LAST_COMMA = re.compile(r",\s*\]")
_PLUS = re.compile(r"(?<!\d)\+(?=\d)")


def _split(text: str) -> list[str]:
    """Read `auc,error`, or the same as a JSON list."""
    try:
        parts = json.loads(text) if text.startswith("[") else text.split(",")
    except (ValueError, RecursionError) as error:
        raise ValueError("names with commas between them are expected") from error
    names = [str(part).strip() for part in parts]
    return [name for name in names if name]  # `rmse,` is a list as well


def _flag(text: str) -> object:
    """Literal types compare by value: give them the number that the text stands for."""
    return {"0": 0, "1": 1, "false": 0, "true": 1}.get(text.lower(), text)


def _constraints(text: str) -> object:
    """Read `(1,-1,0)` or `[[1,2],[3]]` as data."""
    if not _CONSTRAINTS.fullmatch(text):
        raise ValueError(_EXPECTED_CONSTRAINTS)
    try:
        # As in a tuple of Python's: a comma may be last, a sign before any number.
        plain = _LAST_COMMA.sub("]", text.replace("(", "[").replace(")", "]"))
        return json.loads(_PLUS.sub("", plain))
    except (ValueError, RecursionError) as error:
        raise ValueError(_EXPECTED_CONSTRAINTS) from error


CommaList = Annotated[list[str], BeforeValidator(_split), Field(min_length=1)]
Flags = Annotated[Flag, BeforeValidator(_flag)]
Monotone = Annotated[list[Literal[-1, 0, 1]], BeforeValidator(_constraints)]
Interactions = Annotated[list[list[Annotated[int, Field(ge=0)]]], BeforeValidator(_constraints)]


class XGBoostHyperparameters(BaseModel):
    """What a training job may set; what it does not set is left to XGBoost's own default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    FOREIGN_NAMES: ClassVar = _FOREIGN_NAMES

    num_round: Size = Field(ge=1)
    eta: Probability | None = Field(None, validation_alias=AliasChoices("eta", "learning_rate"))
    gamma: NonNegative | None = Field(
        None, validation_alias=AliasChoices("gamma", "min_split_loss")
    )
    lambda_: NonNegative | None = Field(
        None, validation_alias=AliasChoices("lambda", "reg_lambda"), serialization_alias="lambda"
    )
    alpha: NonNegative | None = Field(None, validation_alias=AliasChoices("alpha", "reg_alpha"))
    max_depth: Size | None = Field(None, ge=0)
    min_child_weight: NonNegative | None = None
    max_delta_step: NonNegative | None = None
    subsample: Share | None = None
    colsample_bytree: Share | None = None
    colsample_bylevel: Share | None = None
    colsample_bynode: Share | None = None
    tree_method: Literal["auto", "exact", "approx", "hist", "gpu_hist"] | None = None
    booster: Literal["gbtree", "gblinear", "dart"] | None = None
    objective: (
        Literal[
            "binary:logistic",
            "binary:logitraw",
            "binary:hinge",
            "count:poisson",
            "multi:softmax",
            "multi:softprob",
            "rank:pairwise",
            "rank:ndcg",
            "rank:map",
            "reg:linear",
            "reg:squarederror",
            "reg:logistic",
            "reg:gamma",
            "reg:pseudohubererror",
            "reg:squaredlogerror",
            "reg:absoluteerror",
            "reg:tweedie",
            "survival:aft",
            "survival:cox",
        ]
        | None
    ) = None
    num_class: Size | None = Field(None, ge=2)
    base_score: NonNegative | None = None
    eval_metric: CommaList | None = None
    early_stopping_rounds: Size | None = Field(None, ge=1)
    csv_weights: Flags = 0
    scale_pos_weight: float | None = Field(None, gt=0)
    seed: int | None = Field(None, gt=-(2**31), lt=2**31 - 1)
    nthread: Size | None = Field(None, ge=1)
    verbosity: int | None = Field(None, ge=0, le=3)
    max_leaves: Size | None = Field(None, ge=0)
    max_bin: Size | None = Field(None, ge=2)
    grow_policy: Literal["depthwise", "lossguide"] | None = None
    num_parallel_tree: Size | None = Field(None, ge=1)
    updater: CommaList | None = None
    process_type: Literal["default", "update"] | None = None
    refresh_leaf: Flags | None = None
    one_drop: Flags | None = None
    dsplit: Literal["row", "col"] | None = None
    predictor: Literal["auto", "cpu_predictor", "gpu_predictor"] | None = None
    monotone_constraints: Monotone | None = None
    interaction_constraints: Interactions | None = None
    sample_type: Literal["uniform", "weighted"] | None = None
    normalize_type: Literal["tree", "forest"] | None = None
    rate_drop: Probability | None = None
    skip_drop: Probability | None = None
    lambda_bias: Probability | None = None
    sketch_eps: float | None = Field(None, gt=0, lt=1)
    tweedie_variance_power: float | None = Field(None, gt=1, lt=2)
    sampling_method: Literal["uniform", "gradient_based"] | None = None
    deterministic_histogram: Truth | None = None
    prob_buffer_row: float | None = Field(None, gt=1)
    silent: str | None = None
    single_precision_histogram: str | None = None
    aft_loss_distribution: Literal["normal", "logistic", "extreme"] | None = None
    aft_loss_distribution_scale: NonNegative | None = None
    save_model_on_termination: Truth | None = None
    use_dask_gpu_training: Truth = "false"
    tuning_objective_metric: str | None = Field(None, validation_alias="_tuning_objective_metric")
    kfold: Size | None = Field(None, ge=2, validation_alias="_kfold")
    num_cv_round: Size = Field(1, ge=1, validation_alias="_num_cv_round")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.use_dask_gpu_training == "true":
            raise HyperparameterError(
                "use_dask_gpu_training",
                "'true' is not supported; leave it out: a GPU is used where there is one, and "
                "several hosts train one model without Dask, on GPUs with tree_method='gpu_hist'",
            )
        self._check_objective()
        self._check_constraints()
        self._check_updaters()
        check_metrics(self.eval_metric or [], self.objective)
        return self

    def _check_objective(self) -> None:
        is_multi = (self.objective or "").startswith("multi:")
        if is_multi and self.num_class is None:
            raise HyperparameterError("num_class", f"is required with objective={self.objective!r}")
        if self.num_class is not None and not is_multi:
            raise HyperparameterError(
                "num_class",
                "is only for objective multi:softmax and multi:softprob; "
                f"given: {self.objective or 'none'}",
            )
        if self.is_ranking and self.csv_weights:
            raise HyperparameterError(
                "csv_weights",
                f"must be 0 with objective={self.objective!r}: XGBoost weighs whole lists there, "
                "not their records",
            )
        is_share = self.objective in ("binary:logistic", "reg:logistic")
        if is_share and self.base_score is not None and self.base_score > 1:
            raise HyperparameterError(
                "base_score", f"must be between 0 and 1 with objective={self.objective!r}"
            )

    def _check_constraints(self) -> None:
        for name, methods in (
            ("monotone_constraints", ("exact", "hist")),
            ("interaction_constraints", ("exact", "hist", "approx")),
        ):
            if getattr(self, name) is not None and self.tree_method not in methods:
                raise HyperparameterError(
                    name,
                    f"needs tree_method to be one of {', '.join(methods)}; "
                    f"given: {self.tree_method or 'none'}",
                )

    def _check_updaters(self) -> None:
        given = set(self.updater or [])
        if not given:
            return
        if unknown := given - _UPDATERS:
            was = "was removed from XGBoost" if unknown <= _REMOVED else "is not known"
            raise HyperparameterError(
                "updater",
                f"{', '.join(sorted(unknown))!r} {was}; use some of {', '.join(sorted(_UPDATERS))}",
            )
        if self.booster == "gblinear":
            if len(given) != 1 or not given <= _LINEAR:
                raise HyperparameterError(
                    "updater", "must be one of coord_descent, shotgun with booster='gblinear'"
                )
        elif self.process_type == "update":
            if not given <= {"refresh", "prune"}:
                raise HyperparameterError(
                    "updater", "may hold only refresh, prune with process_type='update'"
                )
        elif given & _LINEAR:
            raise HyperparameterError(
                "updater", "coord_descent and shotgun need booster='gblinear'"
            )
        elif len(given & _GROWING) != 1:
            raise HyperparameterError("updater", "must hold exactly one grow_* updater")

    @property
    def is_ranking(self) -> bool:
        """Whether the objective orders the records of a list."""
        return (self.objective or "").startswith("rank:")

    def for_xgboost(self) -> dict[str, Any]:
        """The parameters to train with, under XGBoost's own names."""
        given = self.model_dump(
            exclude_none=True, exclude=set(_OF_THE_JOB | _WITHOUT_EFFECT), by_alias=True
        )
        if self.tree_method == "gpu_hist":  # its name since XGBoost 2
            given |= {"tree_method": "hist", "device": "cuda"}
        if self.objective == "reg:linear":  # likewise
            given["objective"] = "reg:squarederror"
        if self.updater:
            given["updater"] = ",".join(self.updater)
        if self.monotone_constraints is not None:
            given["monotone_constraints"] = f"({','.join(map(str, self.monotone_constraints))})"
        if self.interaction_constraints is not None:
            given["interaction_constraints"] = json.dumps(self.interaction_constraints)
        return given

    def without_effect(self) -> list[str]:
        """The names that the job sets and current XGBoost does not use."""
        return sorted(self.model_fields_set & _WITHOUT_EFFECT)
