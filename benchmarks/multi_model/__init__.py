"""Measures many models in one server; `python -m benchmarks.multi_model --help`."""
