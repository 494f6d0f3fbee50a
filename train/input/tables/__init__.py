"""Channels whose records are a table, or whose labels are classes."""
