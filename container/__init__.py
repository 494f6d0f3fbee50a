"""Shared kernel of both verbs: the platform's contract as `train` and `serve` know it."""

__version__ = "0.1.0"
