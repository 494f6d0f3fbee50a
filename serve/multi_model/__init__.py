"""Many models in one server: the `/models` API and the registry."""
