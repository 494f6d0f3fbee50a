"""Names of XGBoost's hyperparameters in other libraries and older versions."""

# In lower case: names of scikit-learn, LightGBM, CatBoost, XGBoost's own packages and old versions.
FOREIGN_NAMES = {
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
    **dict.fromkeys(("gpu_id", "device_type", "task_type"), "device"),
    **dict.fromkeys(("group", "qid", "query", "query_id", "group_id"), "group_column"),
    **dict.fromkeys(("monotonic_cst", "monotonic_constraints"), "monotone_constraints"),
    **dict.fromkeys(
        ("min_data_in_leaf", "min_child_samples", "min_samples_leaf"), "min_child_weight"
    ),
    "init_score": "base_score",
}
