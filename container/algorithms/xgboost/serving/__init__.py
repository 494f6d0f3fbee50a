"""Predicting with XGBoost: a loaded `model` over XGBoost's C interface."""
