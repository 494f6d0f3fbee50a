"""The models that a worker has in memory, least recently used out first."""
