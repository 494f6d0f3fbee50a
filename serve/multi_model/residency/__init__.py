"""Models in the memory of a worker: a cache that evicts the least recently used model first."""
