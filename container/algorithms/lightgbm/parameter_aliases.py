"""Other names of LightGBM's parameters and of their values, as its documentation lists them.

Source: LightGBM 4.6, "Parameters".
"""

ALIASES: dict[str, tuple[str, ...]] = {
    "num_iterations": (
        *("num_iteration", "n_iter", "num_tree", "num_trees", "num_round", "num_rounds"),
        *("nrounds", "num_boost_round", "n_estimators", "max_iter"),
    ),
    "objective": ("objective_type", "app", "application", "loss"),
    "boosting": ("boosting_type", "boost"),
    "learning_rate": ("shrinkage_rate", "eta"),
    "num_leaves": ("num_leaf", "max_leaves", "max_leaf", "max_leaf_nodes"),
    "tree_learner": ("tree", "tree_type", "tree_learner_type"),
    "num_threads": ("num_thread", "nthread", "nthreads", "n_jobs"),
    "device_type": ("device",),
    "seed": ("random_seed", "random_state"),
    "histogram_pool_size": ("hist_pool_size",),
    "min_data_in_leaf": (
        *("min_data_per_leaf", "min_data", "min_child_samples", "min_samples_leaf"),
    ),
    "min_sum_hessian_in_leaf": (
        *("min_sum_hessian_per_leaf", "min_sum_hessian", "min_hessian", "min_child_weight"),
    ),
    "bagging_fraction": ("sub_row", "subsample", "bagging"),
    "pos_bagging_fraction": ("pos_sub_row", "pos_subsample", "pos_bagging"),
    "neg_bagging_fraction": ("neg_sub_row", "neg_subsample", "neg_bagging"),
    "bagging_freq": ("subsample_freq",),
    "bagging_seed": ("bagging_fraction_seed",),
    "feature_fraction": ("sub_feature", "colsample_bytree"),
    "feature_fraction_bynode": ("sub_feature_bynode", "colsample_bynode"),
    "extra_trees": ("extra_tree",),
    "early_stopping_round": ("early_stopping_rounds", "early_stopping", "n_iter_no_change"),
    "max_delta_step": ("max_tree_output", "max_leaf_output"),
    "lambda_l1": ("reg_alpha", "l1_regularization"),
    "lambda_l2": ("reg_lambda", "lambda", "l2_regularization"),
    "min_gain_to_split": ("min_split_gain",),
    "drop_rate": ("rate_drop",),
    "top_k": ("topk",),
    "monotone_constraints": ("mc", "monotone_constraint", "monotonic_cst"),
    "monotone_constraints_method": ("monotone_constraining_method", "mc_method"),
    "monotone_penalty": ("monotone_splits_penalty", "ms_penalty", "mc_penalty"),
    "feature_contri": ("feature_contrib", "fc", "fp", "feature_penalty"),
    "verbosity": ("verbose",),
    "linear_tree": ("linear_trees",),
    "max_bin": ("max_bins",),
    "bin_construct_sample_cnt": ("subsample_for_bin",),
    "data_random_seed": ("data_seed",),
    "is_enable_sparse": ("is_sparse", "enable_sparse", "sparse"),
    "enable_bundle": ("is_enable_bundle", "bundle"),
    "group_column": ("group", "group_id", "query_column", "query", "query_id"),
    "categorical_feature": (
        *("cat_feature", "categorical_column", "cat_column", "categorical_features"),
    ),
    "num_class": ("num_classes",),
    "is_unbalance": ("unbalance", "unbalanced_sets"),
    "metric": ("metrics", "metric_types"),
    "eval_at": ("ndcg_eval_at", "ndcg_at", "map_eval_at", "map_at"),
    "tuning_objective_metric": ("_tuning_objective_metric",),
}

_REGRESSION = ("regression_l2", "l2", "mean_squared_error", "mse")
_ROOT = ("l2_root", "root_mean_squared_error", "rmse")
_ABSOLUTE = ("mean_absolute_error", "mae")
_PERCENTAGE = ("mean_absolute_percentage_error",)

OBJECTIVES: dict[str, str] = {
    **dict.fromkeys(("regression", *_REGRESSION, *_ROOT), "regression"),
    **dict.fromkeys(("regression_l1", "l1", *_ABSOLUTE), "regression_l1"),
    **dict.fromkeys(("mape", *_PERCENTAGE), "mape"),
    **dict.fromkeys(("multiclass", "softmax"), "multiclass"),
    **dict.fromkeys(("multiclassova", "multiclass_ova", "ova", "ovr"), "multiclassova"),
    **dict.fromkeys(("cross_entropy", "xentropy"), "cross_entropy"),
    **dict.fromkeys(("cross_entropy_lambda", "xentlambda"), "cross_entropy_lambda"),
    **dict.fromkeys(("rank_xendcg", "xendcg", "xe_ndcg", "xe_ndcg_mart"), "rank_xendcg"),
    "xendcg_mart": "rank_xendcg",
    **{
        name: name
        for name in (
            *("huber", "fair", "poisson", "quantile", "gamma", "tweedie"),
            *("binary", "lambdarank"),
        )
    },
}
"""Name in LightGBM by each name that a job may use."""

METRICS: dict[str, str] = {
    **dict.fromkeys(("l1", "regression_l1", *_ABSOLUTE), "l1"),
    **dict.fromkeys(("l2", "regression", "regression_l2", "mean_squared_error", "mse"), "l2"),
    **dict.fromkeys(("rmse", "l2_root", "root_mean_squared_error"), "rmse"),
    **dict.fromkeys(("mape", *_PERCENTAGE), "mape"),
    **dict.fromkeys(("ndcg", "lambdarank", *("rank_xendcg", "xendcg", "xe_ndcg")), "ndcg"),
    **dict.fromkeys(("map", "mean_average_precision"), "map"),
    **dict.fromkeys(("binary_logloss", "binary"), "binary_logloss"),
    **dict.fromkeys(
        ("multi_logloss", "multiclass", "softmax", "multiclassova", "ova", "ovr"), "multi_logloss"
    ),
    **dict.fromkeys(("cross_entropy", "xentropy"), "cross_entropy"),
    **dict.fromkeys(("cross_entropy_lambda", "xentlambda"), "cross_entropy_lambda"),
    **dict.fromkeys(("kullback_leibler", "kldiv"), "kullback_leibler"),
    **{
        name: name
        for name in (
            *("quantile", "huber", "fair", "poisson", "gamma", "gamma_deviance", "tweedie"),
            *("auc", "average_precision", "binary_error", "auc_mu", "multi_error"),
        )
    },
}
"""Name in LightGBM by each name that a job may use."""

# Names of other libraries that are no names of LightGBM's.
FOREIGN_NAMES = {
    **dict.fromkeys(("iterations", "epochs", "n_trees", "n_rounds", "nround"), "num_iterations"),
    **dict.fromkeys(("lr", "shrinkage"), "learning_rate"),
    **dict.fromkeys(("l2_leaf_reg",), "lambda_l2"),
    **dict.fromkeys(("alpha_l1",), "lambda_l1"),
    **dict.fromkeys(("gamma", "min_split_loss", "min_impurity_decrease"), "min_gain_to_split"),
    **dict.fromkeys(("colsample", "max_features", "colsample_bylevel"), "feature_fraction"),
    **dict.fromkeys(("eval_metric", "scoring"), "metric"),
    **dict.fromkeys(("loss_function", "criterion"), "objective"),
    **dict.fromkeys(("n_classes", "classes_count"), "num_class"),
    **dict.fromkeys(("od_wait",), "early_stopping_round"),
    **dict.fromkeys(("booster",), "boosting"),
    **dict.fromkeys(("depth",), "max_depth"),
    **dict.fromkeys(("n_threads", "thread_count"), "num_threads"),
    **dict.fromkeys(("class_weight",), "is_unbalance"),
    **dict.fromkeys(("sample_weight", "weight", "weights", "weight_column"), "csv_weights"),
    **dict.fromkeys(("qid",), "group_column"),
    **dict.fromkeys(("cat_features", "cat_index_list"), "categorical_feature"),
}
