import json
from typing import get_args

import numpy as np
import pytest
import xgboost

from container.algorithms.xgboost.hyperparameter_table import XGBoostHyperparameters
from container.errors import HyperparameterError
from container.hyperparameters import names, validate


def _checked(**given: str) -> XGBoostHyperparameters:
    return validate(XGBoostHyperparameters, {"num_round": "10"} | given)


def test_num_round_is_required() -> None:
    """C-096: it is the only required one."""
    with pytest.raises(HyperparameterError, match="'num_round': is required"):
        validate(XGBoostHyperparameters, {})


# One value that is accepted and one that is not, for each hyperparameter of AWS's container.
@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("num_round", "1", "0"),
        ("num_round", "4000", "1.5"),
        ("eta", "1.5", "-0.1"),
        ("learning_rate", "1", "-0.1"),
        ("gamma", "0", "-1"),
        ("min_split_loss", "5", "-1"),
        ("max_depth", "0", "7.5"),
        ("min_child_weight", "120", "-1"),
        ("max_delta_step", "0.7", "-1"),
        ("subsample", "1", "0"),
        ("colsample_bytree", "0.5", "0"),
        ("colsample_bylevel", "0.1", "1.01"),
        ("colsample_bynode", "1", "0"),
        ("lambda", "1000", "-1"),
        ("reg_lambda", "0", "x"),
        ("alpha", "0", "-1"),
        ("reg_alpha", "1", "inf"),
        ("tree_method", "approx", "fast"),
        ("booster", "dart", "linear"),
        ("objective", "survival:cox", "reg:cubederror"),
        ("base_score", "-0.5", "half"),
        ("early_stopping_rounds", "1", "0"),
        ("csv_weights", "1", "2"),
        ("scale_pos_weight", "0", "-1"),
        ("seed", "2147483648", "9223372036854775808"),
        ("nthread", "-1", "-2"),
        ("verbosity", "3", "4"),
        ("max_leaves", "0", "-1"),
        ("max_bin", "2", "1"),
        ("max_depth", "2147483647", "2147483648"),
        ("grow_policy", "lossguide", "widest"),
        ("num_parallel_tree", "1", "0"),
        ("process_type", "update", "other"),
        ("refresh_leaf", "0", "2"),
        ("one_drop", "1", "yes"),
        ("dsplit", "row", "none"),
        ("predictor", "cpu_predictor", "tpu"),
        ("sample_type", "weighted", "random"),
        ("normalize_type", "forest", "none"),
        ("rate_drop", "1", "1.1"),
        ("skip_drop", "0", "-0.1"),
        ("lambda_bias", "0", "2"),
        ("sketch_eps", "0.5", "1"),
        ("tweedie_variance_power", "1", "2"),
        ("sampling_method", "gradient_based", "random"),
        ("deterministic_histogram", "True", "1"),
        ("prob_buffer_row", "1.5", "1"),
        ("aft_loss_distribution", "extreme", "gumbel"),
        ("aft_loss_distribution_scale", "0", "-1"),
        ("quantile_alpha", "0.5", "1.5"),
        ("expectile_alpha", "[0.1, 0.9]", "x"),
        ("huber_slope", "0.5", "0"),
        ("multi_strategy", "multi_output_tree", "one"),
        ("device", "cuda:1", "tpu"),
        ("max_cat_to_onehot", "1", "0"),
        ("max_cat_threshold", "64", "0"),
        ("lambdarank_pair_method", "mean", "all"),
        ("lambdarank_num_pair_per_sample", "8", "0"),
        ("lambdarank_normalization", "false", "2"),
        ("lambdarank_score_normalization", "0", "no"),
        ("lambdarank_unbiased", "true", "-1"),
        ("lambdarank_bias_norm", "2", "-1"),
        ("ndcg_exp_gain", "False", "x"),
        ("save_model_on_termination", "true", "yes"),
        ("save_model_on_termination", "False", "0"),
        ("refresh_leaf", "True", "-1"),
    ],
)
def test_every_hyperparameter_has_its_range(name: str, good: str, bad: str) -> None:
    """C-014, C-096: values arrive as text; the message names the key and what was given."""
    assert _checked(**{name: good})

    with pytest.raises(HyperparameterError) as caught:
        _checked(**{name: bad})

    assert repr(name) in caught.value.message or f"as {name!r}" in caught.value.message
    assert repr(bad) in caught.value.message


def test_aliases_reach_xgboost_under_one_name() -> None:
    """C-096: learning_rate, min_split_loss, reg_lambda and reg_alpha."""
    checked = _checked(learning_rate="0.1", min_split_loss="2", reg_lambda="3", reg_alpha="4")

    assert checked.for_xgboost() == {"eta": 0.1, "gamma": 2.0, "lambda": 3.0, "alpha": 4.0}


def test_what_the_job_does_not_set_is_left_to_xgboost() -> None:
    """No default of ours stands between the job and the framework."""
    assert _checked().for_xgboost() == {}


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("n_estimators", "num_round"),
        ("num_boost_round", "num_round"),
        ("random_state", "seed"),
        ("n_jobs", "nthread"),
        ("verbose", "verbosity"),
        ("num_leaves", "max_leaves"),
        ("feature_fraction", "colsample_bytree"),
        ("gpu_id", "device"),
        ("qid", "group_column"),
        ("monotonic_cst", "monotone_constraints"),
        ("min_data_in_leaf", "min_child_weight"),
        ("max_dept", "max_depth"),
        ("colsample_by_tree", "colsample_bytree"),
        ("early_stoping_rounds", "early_stopping_rounds"),
    ],
)
def test_foreign_name_is_answered_with_ours(foreign: str, ours: str) -> None:
    """Names of scikit-learn, LightGBM and older XGBoost, and slips of the pen. C-014."""
    with pytest.raises(HyperparameterError) as caught:
        _checked(**{foreign: "1"})

    assert caught.value.message.count("'") == 4  # no second suggestion
    assert f"{foreign!r}: is not known" in caught.value.message
    assert repr(ours) in caught.value.message


def test_foreign_names_lead_to_known_ones() -> None:
    """No suggestion is itself refused, and no known name is called foreign."""
    known = set(names(XGBoostHyperparameters))
    foreign = XGBoostHyperparameters.FOREIGN_NAMES

    assert set(foreign.values()) <= known
    assert not set(foreign) & known


def test_silent_of_older_versions_is_passed_over() -> None:
    """It is reported as without effect, whatever its value, and not sent to XGBoost."""
    checked = _checked(silent="1", single_precision_histogram="true")

    assert checked.for_xgboost() == {}
    assert checked.without_effect() == ["silent", "single_precision_histogram"]


def test_tuning_objective_never_fails_validation() -> None:
    """C-013: tuning jobs add it."""
    assert _checked(_tuning_objective_metric="validation:anything at all")


@pytest.mark.parametrize("text", ["(1,-1,0)", "[1,-1,0]", "(1, -1, 0,)", "( +1 , -1 , +0 , )"])
def test_monotone_constraints_are_read_as_data(text: str) -> None:
    """The tuple text of the documentation, and JSON."""
    checked = _checked(monotone_constraints=text, tree_method="hist")

    assert checked.for_xgboost()["monotone_constraints"] == "(1,-1,0)"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "(1,2)",
        "(1",
        "1",
        "[" * 50_000,
        "(true,)",
        "(1 0)",
        "(1+0,)",
    ],
)
def test_constraints_are_never_evaluated(text: str) -> None:
    """AWS's image evaluates this text; here it is data or an error."""
    with pytest.raises(HyperparameterError, match="monotone_constraints"):
        _checked(monotone_constraints=text, tree_method="hist")


def test_interaction_constraints_are_nested_lists() -> None:
    """Groups of feature indices."""
    checked = _checked(interaction_constraints="[[1,2],[3,4,5]]", tree_method="approx")

    assert checked.for_xgboost()["interaction_constraints"] == "[[1, 2], [3, 4, 5]]"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "multi:softmax"}, "'num_class': is required"),
        ({"monotone_constraints": "(1,)", "booster": "gblinear"}, "needs trees"),
        ({"interaction_constraints": "[[1]]", "booster": "gblinear"}, "needs trees"),
        ({"objective": "multi:softmax", "num_class": "1"}, "'num_class': 1 is not accepted"),
        ({"objective": "reg:quantileerror"}, "'quantile_alpha': is required"),
        ({"objective": "reg:expectileerror"}, "'expectile_alpha': is required"),
        ({"objective": "count:poisson", "base_score": "-1"}, "must not be negative"),
        ({"objective": "binary:logistic", "base_score": "-1"}, "between 0 and 1"),
        ({"base_score": "[1,2]"}, "has 2 numbers and the model 1 output;"),
        ({"multi_strategy": "multi_output_tree", "booster": "dart"}, "needs booster=gbtree"),
        ({"multi_strategy": "multi_output_tree", "tree_method": "approx"}, "given: gbtree, approx"),
        ({"device": "cpu", "tree_method": "gpu_hist"}, "'cpu' contradicts tree_method"),
        ({"device": "cuda", "tree_method": "exact"}, "does not work with tree_method='exact'"),
        ({"device": "gpu", "booster": "gblinear"}, "does not work with booster='gblinear'"),
        ({"eval_metric": "merror"}, "'merror' needs a multi objective"),
        (
            {"eval_metric": "rmse", "objective": "multi:softprob", "num_class": "3"},
            "use merror or mlogloss for a multi objective",
        ),
        (
            {"eval_metric": "mae", "objective": "reg:quantileerror", "quantile_alpha": "[0.1,0.9]"},
            "the model has several outputs",
        ),
        ({"eval_metric": "quantile"}, "needs objective 'reg:quantileerror'"),
        ({"eval_metric": "interval-regression-accuracy"}, "needs objective 'survival:aft'"),
        ({"eval_metric": "ams"}, "'ams' is not known"),
        ({"objective": "binary:logistic", "num_class": "2"}, "only for objective multi:softmax"),
        ({"objective": "binary:logistic", "base_score": "2"}, "between 0 and 1"),
        ({"use_dask_gpu_training": "true"}, "leave it out: a GPU is used where there is one"),
        ({"objective": "rank:ndcg", "csv_weights": "1"}, "'csv_weights': must be 0 with"),
        ({"updater": "grow_colmaker,grow_histmaker"}, "exactly one grow_"),
        ({"updater": "refresh"}, "exactly one grow_"),
        ({"updater": "shotgun"}, "need booster='gblinear'"),
        ({"updater": "magic"}, "'magic' is not known"),
        ({"updater": "grow_skmaker"}, "'grow_skmaker' was removed from XGBoost"),
        ({"eval_metric": "[" * 5000}, "'eval_metric'"),
        ({"eval_metric": "accuracy"}, "needs a binary or multi objective"),
        (
            {"eval_metric": "precision", "objective": "multi:softmax", "num_class": "3"},
            "needs a binary objective",
        ),
        ({"updater": "prune", "booster": "gblinear"}, "coord_descent, shotgun"),
        ({"updater": "grow_colmaker", "process_type": "update"}, "only refresh, prune"),
        ({"eval_metric": "aft-nloglik"}, "needs objective 'survival:aft'"),
        ({"eval_metric": "rmse,nonsense"}, "'nonsense' is not known"),
        ({"eval_metric": "rmse@3"}, "'rmse@3' is not known"),
    ],
)
def test_values_that_do_not_go_together_are_refused(given: dict[str, str], message: str) -> None:
    """Hyperparameters that exclude or need each other are checked together."""
    with pytest.raises(HyperparameterError) as caught:
        _checked(**given)

    assert message in caught.value.message


@pytest.mark.parametrize(
    "metrics",
    [
        "error@0.7,error",
        "ndcg@5,map@3-",
        "pre@3,ams@0.15,pre",
        '["auc","logloss"]',
        "rmse , mae",
        "auc,",
    ],
)
def test_metric_lists_and_arguments(metrics: str) -> None:
    """Comma lists and JSON lists; thresholds and lengths."""
    assert _checked(eval_metric=metrics, objective="binary:logistic").eval_metric


def test_names_of_older_versions_are_translated_or_reported() -> None:
    """Jobs written for older images still run."""
    checked = _checked(tree_method="gpu_hist", objective="reg:linear", predictor="gpu_predictor")

    assert checked.for_xgboost() == {
        "tree_method": "hist",
        "device": "cuda",
        "objective": "reg:squarederror",
    }
    assert checked.without_effect() == ["predictor"]


def test_what_xgboost_no_longer_knows_is_not_sent_to_it(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """It would warn of each in terms of its source; the job names them itself."""
    given = {"sketch_eps": "0.1", "dsplit": "row", "predictor": "auto", "lambda_bias": "0.5"}
    given |= {"deterministic_histogram": "true", "prob_buffer_row": "2", "verbosity": "1"}
    data = xgboost.DMatrix(np.ones((2, 1)), np.ones(2))
    for booster in ("gbtree", "gblinear"):
        checked = _checked(booster=booster, **given)
        xgboost.train(checked.for_xgboost(), data, 1)

        assert checked.without_effect() == sorted(set(given) - {"verbosity"})

    assert "not used" not in capfd.readouterr().err
    assert not list(recwarn)


# What `save_config` names and a job does not set, with the reason.
NOT_OFFERED = {
    "disable_default_eval_metric": "set where the job names metrics",
    "fail_on_invalid_gpu_id": "a GPU that is not there is refused before",
    "feature_selector": "its order is kept in no model file, so that no job could be resumed",
    "seed_per_iteration": "set where a job has to be resumed",
    "sparse_threshold": "not documented",
    "validate_parameters": "set by the package",
    **dict.fromkeys(("max_row_perbatch", "tolerance"), "of the linear booster, not documented"),
    **dict.fromkeys(("n_jobs", "random_state"), "aliases of nthread and seed"),
    **dict.fromkeys(
        (
            *("boost_from_average", "name", "num_feature", "num_target", "num_trees"),
            *("rng_state", "updater_seq"),
        ),
        "state and no parameter",
    ),
}


def _parameters_of_the_library() -> set[str]:
    names_: set[str] = set()

    def walk(node: dict[str, object]) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(value)
            elif isinstance(value, str):
                names_.add(name)

    positive = np.arange(1, 9, dtype=np.float32)
    objectives = get_args(get_args(XGBoostHyperparameters.model_fields["objective"].annotation)[0])
    for booster in ("gbtree", "dart", "gblinear"):
        for objective in objectives:
            data = xgboost.DMatrix(positive.reshape(-1, 1), positive % 2)
            given = {"objective": objective, "booster": booster, "quantile_alpha": 0.5}
            given |= {"expectile_alpha": 0.5} | ({"num_class": 2} if "multi" in objective else {})
            with xgboost.config_context(verbosity=0):
                try:
                    config = xgboost.Booster(given, [data]).save_config()
                except xgboost.core.XGBoostError as error:
                    assert "Unknown objective function: `reg:expectileerror`" in str(error)  # noqa: PT017
                    continue
            walk(json.loads(config))
    return names_


def test_every_parameter_of_the_installed_library_is_offered_or_left_out_for_a_reason() -> None:
    """A new version of XGBoost cannot bring parameters that a job may not set unnoticed. C-096."""
    of_library = _parameters_of_the_library()

    assert {"max_depth", "huber_slope", "lambdarank_unbiased", "rate_drop"} <= of_library
    assert sorted(of_library - set(names(XGBoostHyperparameters)) - set(NOT_OFFERED)) == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"quantile_alpha": "0.3"}, {"quantile_alpha": 0.3}),
        ({"quantile_alpha": "0.1,0.9"}, {"quantile_alpha": "[0.1, 0.9]"}),
        ({"quantile_alpha": "(0.1, 0.5, 0.9,)"}, {"quantile_alpha": "[0.1, 0.5, 0.9]"}),
        ({"base_score": "-0.5"}, {"base_score": -0.5}),
        ({"device": "gpu:1"}, {"device": "cuda:1"}),
        ({"device": "cuda:1", "tree_method": "gpu_hist"}, {"device": "cuda:1"}),
        ({"nthread": "-1"}, {}),
        ({"ndcg_exp_gain": "false"}, {"ndcg_exp_gain": 0}),
    ],
)
def test_values_reach_xgboost_in_its_own_form(
    given: dict[str, str], sent: dict[str, object]
) -> None:
    """Lists as JSON, names of devices as XGBoost's own, and no thread number that means all."""
    checked = _checked(**given)

    expected = sent | ({"tree_method": "hist"} if "tree_method" in given else {})
    assert checked.for_xgboost() == expected
