"""Training with LightGBM; the entry point is `lightgbm_fit.fit`."""
