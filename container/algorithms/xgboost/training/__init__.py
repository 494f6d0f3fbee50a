"""Training with XGBoost; the entry point is `fit.fit`."""
