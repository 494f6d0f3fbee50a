"""Records that are a table: columns of numbers and text, with or without names."""
