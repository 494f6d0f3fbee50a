"""Algorithms of scikit-learn: linear models, forests, boosting, neighbours, and a preprocessor."""
