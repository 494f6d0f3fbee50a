"""Predicting with LightGBM: a loaded model over its C interface, or a user's own object."""
