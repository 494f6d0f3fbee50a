"""Files of LightGBM models: the text format, and its validation."""
