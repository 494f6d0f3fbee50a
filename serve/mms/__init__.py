"""multi-model-server as the second engine for many models: one process a model."""
