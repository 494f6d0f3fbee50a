"""The input of a job: channels, read once and kept for every later use."""
