"""`text/csv`."""
