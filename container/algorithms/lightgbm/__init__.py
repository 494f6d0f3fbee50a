"""LightGBM as an algorithm of this container: `lightgbm_algorithm` declares it."""
