"""Training with XGBoost: `fit` is the way in."""
