"""The shared kernel of both verbs: what `train` and `serve` know about the platform's contract."""

__version__ = "0.1.0"
