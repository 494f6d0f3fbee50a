"""The hyperparameters of XGBoost as a declaration: names, types, ranges.

The names are those of AWS's built-in algorithm and those that the installed XGBoost has beyond
them; the ranges are XGBoost's own. Constraints are parsed as JSON, never evaluated. Where a
parameter has no effect in current XGBoost it is accepted and reported, so that jobs written for
older images still run.

Source: AWS's XGBoost container, `algorithm_mode/hyperparameter_validation.py`, for the names;
XGBoost 3.2.0 and 3.4.1, "XGBoost Parameters" and `Booster.save_config`, for names and ranges.
"""

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from container.algorithms.xgboost.evaluation_metrics import check_metrics, is_of_lists
from container.algorithms.xgboost.foreign_names import FOREIGN_NAMES
from container.errors import HyperparameterError, counted

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
        "group_column",
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

# Objectives whose base score is not negative: a probability, or the mean of positive labels.
_SHARES = ("binary:logistic", "reg:logistic")
_LOG_LINKS = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:aft", "survival:cox")
# Objectives with an output for each number of a list.
_LISTS = {"reg:quantileerror": "quantile_alpha", "reg:expectileerror": "expectile_alpha"}

_EXPECTED_CONSTRAINTS = "a list of integers in brackets is expected"
_CONSTRAINTS = re.compile(r"[\d\s,()\[\]+-]+", re.ASCII)
_DEVICE = re.compile(r"cpu|(cuda|gpu)(:\d{1,3})?", re.ASCII)
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


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError("use cpu, cuda, or cuda:1 for one GPU of several")
    return text.replace("gpu", "cuda")  # XGBoost knows both names


def _numbers(text: str) -> object:
    """Read `0.5`, `0.1,0.9`, `(0.1,0.9)` or `[0.1,0.9]`."""
    return [part.strip() for part in text.strip("[]() ").rstrip(", ").split(",")]


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


def _column(text: str) -> object:
    """Read the number of a column, or its name."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


CommaList = Annotated[list[str], BeforeValidator(_split), Field(min_length=1)]
Flags = Annotated[Flag, BeforeValidator(_flag)]
Device = Annotated[str, AfterValidator(_device)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Annotated[list[Number], BeforeValidator(_numbers), Field(min_length=1)]
Probabilities = Annotated[list[Probability], BeforeValidator(_numbers), Field(min_length=1)]
Group = Annotated[int | str, BeforeValidator(_column)]
Monotone = Annotated[list[Literal[-1, 0, 1]], BeforeValidator(_constraints)]
Interactions = Annotated[list[list[Annotated[int, Field(ge=0)]]], BeforeValidator(_constraints)]


class XGBoostHyperparameters(BaseModel):
    """Hyperparameters of a training job; unset ones keep XGBoost's own default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    FOREIGN_NAMES: ClassVar = FOREIGN_NAMES

    num_round: Size = Field(ge=1)
    eta: NonNegative | None = Field(None, validation_alias=AliasChoices("eta", "learning_rate"))
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
            "reg:quantileerror",
            "reg:expectileerror",
            "survival:aft",
            "survival:cox",
        ]
        | None
    ) = None
    num_class: Size | None = Field(None, ge=0)
    base_score: Numbers | None = None
    eval_metric: CommaList | None = None
    early_stopping_rounds: Size | None = Field(None, ge=1)
    csv_weights: Flags = 0
    group_column: Group | None = None
    scale_pos_weight: NonNegative | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    nthread: Size | None = Field(None, ge=-1)
    device: Device | None = None
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
    tweedie_variance_power: float | None = Field(None, ge=1, lt=2)
    quantile_alpha: Probabilities | None = None
    expectile_alpha: Probabilities | None = None
    huber_slope: float | None = Field(None, gt=0)
    multi_strategy: Literal["one_output_per_tree", "multi_output_tree"] | None = None
    max_cat_to_onehot: Size | None = Field(None, ge=1)
    max_cat_threshold: Size | None = Field(None, ge=1)
    lambdarank_pair_method: Literal["topk", "mean"] | None = None
    lambdarank_num_pair_per_sample: Size | None = Field(None, ge=1)
    lambdarank_normalization: Flags | None = None
    lambdarank_score_normalization: Flags | None = None
    lambdarank_unbiased: Flags | None = None
    lambdarank_bias_norm: NonNegative | None = None
    ndcg_exp_gain: Flags | None = None
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
        self._check_base_score()
        self._check_trees()
        self._check_updaters()
        check_metrics(self.eval_metric or [], self.objective, n_outputs=self.n_outputs)
        return self

    def _check_objective(self) -> None:
        is_multi = (self.objective or "").startswith("multi:")
        if is_multi and self.num_class is None:
            raise HyperparameterError("num_class", f"is required with objective={self.objective!r}")
        if is_multi and self.num_class is not None and self.num_class < 2:
            raise HyperparameterError(
                "num_class",
                f"{self.num_class} is not accepted with objective={self.objective!r}; use the "
                "number of classes, at least 2",
            )
        if (self.num_class or 0) > 1 and not is_multi:
            raise HyperparameterError(
                "num_class",
                "is only for objective multi:softmax and multi:softprob; "
                f"given: {self.objective or 'none'}",
            )
        needed = _LISTS.get(self.objective or "")
        if needed and getattr(self, needed) is None:
            raise HyperparameterError(
                needed,
                f"is required with objective={self.objective!r}: one number between 0 and 1, or a "
                "list such as [0.1,0.9] for a model with several outputs",
            )
        if self.is_ranking and self.csv_weights:
            raise HyperparameterError(
                "csv_weights",
                f"must be 0 with objective={self.objective!r}: XGBoost weighs whole lists there, "
                "not their records",
            )
        if self.group_column in range(1 + self.csv_weights):
            raise HyperparameterError(
                "group_column",
                f"is {self.group_column}, the column of the label or the weight; columns count "
                f"from 0, so use {1 + self.csv_weights} or more, or a name",
            )

    def _check_base_score(self) -> None:
        scores = self.base_score or []
        if self.objective in _SHARES and not all(0 <= score <= 1 for score in scores):
            raise HyperparameterError(
                "base_score", f"must be between 0 and 1 with objective={self.objective!r}"
            )
        if self.objective in _LOG_LINKS and any(score < 0 for score in scores):
            raise HyperparameterError(
                "base_score", f"must not be negative with objective={self.objective!r}"
            )
        if len(scores) not in (0, 1, self.n_outputs):
            raise HyperparameterError(
                "base_score",
                f"has {counted(len(scores), 'number')} and the model "
                f"{counted(self.n_outputs, 'output')}; give one number, or one for each output",
            )

    def _check_trees(self) -> None:
        """Refuse options that XGBoost would ignore, or refuse after the data are read."""
        for name in ("monotone_constraints", "interaction_constraints"):
            if getattr(self, name) is not None and self.booster == "gblinear":
                raise HyperparameterError(name, "needs trees; use booster gbtree or dart")
        if self.multi_strategy == "multi_output_tree" and (
            self.booster in ("dart", "gblinear") or self.tree_method in ("exact", "approx")
        ):
            raise HyperparameterError(
                "multi_strategy",
                "'multi_output_tree' needs booster=gbtree and tree_method=hist or auto; "
                f"given: {self.booster or 'gbtree'}, {self.tree_method or 'auto'}",
            )
        if not self.device:
            return
        if self.device == "cpu" and self.tree_method == "gpu_hist":
            raise HyperparameterError("device", "'cpu' contradicts tree_method='gpu_hist'")
        if self.device != "cpu" and (self.booster == "gblinear" or self.tree_method == "exact"):
            given = "booster='gblinear'" if self.booster == "gblinear" else "tree_method='exact'"
            raise HyperparameterError(
                "device", f"{self.device!r} does not work with {given}, which is for the CPU"
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
        """True if the objective ranks the records of a list."""
        return (self.objective or "").startswith("rank:")

    @property
    def n_outputs(self) -> int:
        """Number of values that the model predicts for a record, as far as declared."""
        if (self.objective or "").startswith("multi:"):
            return max(1, self.num_class or 1)
        numbers = getattr(self, _LISTS.get(self.objective or "", ""), None)
        return len(numbers or [0])

    @property
    def uses_lists(self) -> bool:
        """True if the objective or a metric works on lists of records."""
        watched = (self.tuning_objective_metric or "").rpartition(":")[2]
        return self.is_ranking or any(map(is_of_lists, [watched, *(self.eval_metric or [])]))

    def for_xgboost(self) -> dict[str, Any]:
        """Return the parameters to train with, under XGBoost's own names."""
        given = self.model_dump(
            exclude_none=True, exclude=set(_OF_THE_JOB | _WITHOUT_EFFECT), by_alias=True
        )
        if self.tree_method == "gpu_hist":  # its name since XGBoost 2
            given = {"device": "cuda"} | given | {"tree_method": "hist"}
        if self.nthread is not None and self.nthread < 1:  # to XGBoost, all of the machine's CPUs
            del given["nthread"]
        for name in ("base_score", "quantile_alpha", "expectile_alpha"):
            if (numbers := getattr(self, name)) is not None:
                given[name] = numbers[0] if len(numbers) == 1 else json.dumps(numbers)
        if self.objective == "reg:linear":  # the former name
            given["objective"] = "reg:squarederror"
        if self.updater:
            given["updater"] = ",".join(self.updater)
        if self.monotone_constraints is not None:
            given["monotone_constraints"] = f"({','.join(map(str, self.monotone_constraints))})"
        if self.interaction_constraints is not None:
            given["interaction_constraints"] = json.dumps(self.interaction_constraints)
        return given

    def without_effect(self) -> list[str]:
        """Return the names that the job sets and current XGBoost does not use."""
        return sorted(self.model_fields_set & _WITHOUT_EFFECT)
