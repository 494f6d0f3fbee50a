"""Models that bring their own `code/inference.py`."""
