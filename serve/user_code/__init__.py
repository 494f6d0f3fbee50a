"""User code: models that bring their own script, `code/inference.py`."""
