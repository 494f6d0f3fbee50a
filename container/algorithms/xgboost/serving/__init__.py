"""Predicting with XGBoost: a loaded `model` over XGBoost's C interface, or a user's own Booster."""
