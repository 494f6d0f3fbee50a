"""A process for each model that brings code: fork server, model process, and its handle."""
