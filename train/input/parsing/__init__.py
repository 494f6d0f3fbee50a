"""Streams of bytes to batches of records, in one process or several."""
