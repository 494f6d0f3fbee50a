"""Names, aliases and ranges of LightGBM's hyperparameters."""

import pytest

from container import hyperparameters
from container.algorithms.lightgbm.lightgbm_hyperparameters import LightGBMHyperparameters
from container.algorithms.lightgbm.parameter_aliases import METRICS, OBJECTIVES
from container.errors import HyperparameterError


def _checked(**values: str) -> LightGBMHyperparameters:
    return hyperparameters.validate(LightGBMHyperparameters, values)


@pytest.mark.parametrize("name", ["num_round", "num_boost_round", "n_estimators", "max_iter"])
def test_number_of_rounds_has_many_names(name: str) -> None:
    """As in LightGBM, AWS's built-in algorithm and scikit-learn."""
    assert _checked(**{name: "7"}).num_iterations == 7


def test_names_of_aws_are_accepted() -> None:
    """The hyperparameters of AWS's built-in LightGBM, with its defaults."""
    given = _checked(
        num_boost_round="5000",
        early_stopping_rounds="30",
        metric="auto",
        learning_rate="0.009",
        num_leaves="67",
        feature_fraction="0.74",
        bagging_fraction="0.53",
        bagging_freq="5",
        max_depth="11",
        min_data_in_leaf="26",
        max_delta_step="0.0",
        lambda_l1="0.0",
        lambda_l2="0.0",
        boosting="gbdt",
        min_gain_to_split="0.0",
        scale_pos_weight="1.0",
        tree_learner="serial",
        feature_fraction_bynode="1.0",
        is_unbalance="False",
        max_bin="255",
        tweedie_variance_power="1.5",
        num_threads="0",
        verbosity="1",
        use_dask="False",
    )

    sent = given.for_lightgbm()

    assert given.metrics == []
    assert sent["learning_rate"] == 0.009
    assert sent["deterministic"] is True
    assert not {"num_threads", "num_iterations", "tree_learner", "use_dask", "metric"} & set(sent)


def test_lists_are_read_in_every_spelling() -> None:
    """Columns by index or name, constraints as tuples, metrics by any alias."""
    assert _checked(categorical_feature="0,3").categorical_feature == [0, 3]
    assert _checked(cat_feature="name:city,4").categorical_feature == ["city", "4"]
    assert _checked(mc="(1,0,-1)").monotone_constraints == [1, 0, -1]
    assert _checked(interaction_constraints="[0,1],[2]").interaction_constraints == [[0, 1], [2]]
    assert _checked(metric="mae,rmse,l1").metric == ["l1", "rmse"]
    assert _checked(objective="mse").objective == "regression"


def test_metric_of_a_tuning_job_is_computed() -> None:
    """The metric that the tuner watches joins those of the job (C-013)."""
    given = _checked(metric="l1", _tuning_objective_metric="validation:rmse")

    assert given.for_lightgbm()["metric"] == ["l1", "rmse"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"num_leaves": "1"}, "'num_leaves': '1' is not accepted"),
        ({"bagging_fraction": "0"}, "greater than 0"),
        ({"eta": "0.1", "learning_rate": "0.1"}, "given twice"),
        ({"eval_metric": "auc"}, "use 'metric'"),
        ({"num_leavs": "3"}, "did you mean 'num_leaves'"),
        ({"metric": "nothing"}, "'nothing' is not a metric here; use some of auc"),
        ({"objective": "nothing"}, "use one of binary"),
        ({"objective": "multiclass"}, "'num_class': is required"),
        ({"num_class": "3"}, "only for objective multiclass"),
        ({"metric": "multi_error"}, "does not fit objective='regression'"),
        ({"boosting": "rf"}, "set bagging_freq to 1"),
        ({"is_unbalance": "true", "scale_pos_weight": "2"}, "exclude each other"),
        ({"force_row_wise": "true", "force_col_wise": "true"}, "exclude each other"),
        ({"use_dask": "true"}, "one host"),
        ({"group_column": "0"}, "column of the label"),
        ({"interaction_constraints": "0,1"}, "list"),
        ({"device_type": "gpu"}, "'cpu'"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, str], problem: str) -> None:
    """Before any record is read, with the name and what is accepted."""
    with pytest.raises(HyperparameterError, match=problem.replace("(", r"\(")):
        _checked(**values)


def test_known_values_are_known_to_lightgbm() -> None:
    """Each objective and metric can be trained with, by LightGBM's own name."""
    assert all(OBJECTIVES[name] == name for name in OBJECTIVES.values())
    assert all(METRICS[name] == name for name in METRICS.values())
