"""Damaged model files against a running server; `python -m benchmarks.mutate_models --help`."""
