"""CSV to a trained model, beside pandas and AWS's way; `python -m benchmarks.training --help`."""
