"""Mutated bodies against a running server; `python -m benchmarks.fuzz --help`."""
