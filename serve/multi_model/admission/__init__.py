"""Admission of models: each is validated in a child of the fork server."""
